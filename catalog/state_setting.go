package catalog

import "fmt"

// firstIndex is the index of a setting of which a snapshot says none. It is not 0, since SwapSetting takes that for no
// setting at all.
const firstIndex = 1

func (c SetSetting) apply(s *state, _ *Result) error {
	s.putSetting(c.Key, c.Value)
	return nil
}

func (c SwapSetting) apply(s *state, _ *Result) error {
	if now, _ := s.settings.get(settingItem{key: c.Key}); now.index != c.IfIndex {
		return fmt.Errorf("setting %s at index %d, which is %d now: %w", c.Key, c.IfIndex, now.index, ErrChanged)
	}
	s.putSetting(c.Key, c.Value)
	return nil
}

// putSetting keeps a setting in place of an older one, or takes it away.
func (s *state) putSetting(key string, value []byte) {
	if len(value) == 0 {
		s.settings.remove(settingItem{key: key})
		return
	}
	s.settings.put(settingItem{key, value, max(firstIndex, s.index)})
}
