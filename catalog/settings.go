package catalog

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// Limits of lists of settings.
const (
	maxSettingsPage  = 1 << 20 // bytes in one answer; the last setting may go beyond it
	maxSettingsBytes = 64 << 20
)

// A Setting is what the farm agreed on under a key. Its value is not to be changed.
type Setting struct {
	Key   string
	Value []byte
	Index uint64 // of the command that set it, for SwapSetting.IfIndex
}

// Setting is what the farm agreed on under a key, or nil. It is not to be changed.
func (v View) Setting(key string) []byte {
	s, _ := v.SettingAt(key)
	return s.Value
}

// SettingAt is what the farm agreed on under a key.
func (v View) SettingAt(key string) (Setting, bool) {
	s, ok := v.s.settings.get(settingItem{key: key})
	return s.setting(), ok
}

// Settings yields the settings whose keys begin with prefix, in the order of the keys, after the key after.
func (v View) Settings(prefix, after string) iter.Seq[Setting] {
	return func(yield func(Setting) bool) {
		for s := range v.s.settings.from(settingItem{key: max(prefix, after)}) {
			if !strings.HasPrefix(s.key, prefix) {
				return
			}
			if s.key != after && !yield(s.setting()) {
				return
			}
		}
	}
}

func (s settingItem) setting() Setting { return Setting{s.key, s.value, s.index} }

// Setting is what the farm agreed on under a key, or nil.
func (c *Catalog) Setting(ctx context.Context, key string, stale bool) ([]byte, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_SETTING, Name: key}, stale)
	return a.GetValue(), err
}

// SettingAt is what the farm agreed on under a key with the index of its last change, for SwapSetting; nil and 0 when
// there is nothing. The error is oci.ErrUnsupported when the node that answers is of a release without such indexes.
func (c *Catalog) SettingAt(ctx context.Context, key string, stale bool) (value []byte, index uint64, err error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_SETTING, Name: key}, stale)
	if err == nil && a.GetFound() && a.GetSettingIndex() == 0 {
		return nil, 0, fmt.Errorf("ask for setting %s: %w: it comes without an index", key, oci.ErrUnsupported)
	}
	return a.GetValue(), a.GetSettingIndex(), err
}

// Settings are the settings whose keys begin with prefix, in the order of the keys. Each is as it was at some moment of the
// call, and all are of one moment while they fit into an answer: 1,000 of them, 1 MiB. The error is oci.ErrTooLarge when
// they are more than 64 MiB together.
func (c *Catalog) Settings(ctx context.Context, prefix string, stale bool) ([]Setting, error) {
	var all []Setting
	for after, size := "", 0; ; {
		a, err := c.ask(ctx, &catalogpb.Question{
			Kind: catalogpb.Question_KIND_SETTINGS, Prefix: prefix, Name: after, Count: maxPage,
		}, stale)
		if err != nil {
			return nil, err
		}
		for _, p := range a.GetSettings() {
			if p.GetKey() <= after && after != "" || !strings.HasPrefix(p.GetKey(), prefix) {
				return nil, fmt.Errorf("list settings below %s after %s: %s is none", prefix, after, p.GetKey())
			}
			all = append(all, Setting{p.GetKey(), p.GetValue(), p.GetIndex()})
			after, size = p.GetKey(), size+len(p.GetKey())+len(p.GetValue())
		}
		if !a.GetMore() || len(a.GetSettings()) == 0 {
			return all, nil
		}
		if size > maxSettingsBytes {
			return nil, fmt.Errorf("%w: settings below %s with more than %d bytes", oci.ErrTooLarge, prefix, maxSettingsBytes)
		}
	}
}

// answerSettings answers with one setting, or with as many as one message has room for.
func answerSettings(v View, q *catalogpb.Question, a *catalogpb.Answer) {
	if q.GetKind() == catalogpb.Question_KIND_SETTING {
		s, ok := v.SettingAt(q.GetName())
		a.Found, a.Value, a.SettingIndex = ok, s.Value, s.Index
		return
	}
	size := 0
	for s := range v.Settings(q.GetPrefix(), q.GetName()) {
		if len(a.Settings) >= min(int(q.GetCount()), maxPage) || size >= maxSettingsPage {
			a.More = true
			return
		}
		a.Settings = append(a.Settings, &catalogpb.Setting{Key: s.Key, Value: s.Value, Index: s.Index})
		size += len(s.Key) + len(s.Value)
	}
}
