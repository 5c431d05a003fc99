package hub

import (
	"fmt"
	"slices"
)

// AddFault puts a fault in force and returns the id that ClearFault takes.
func (h *Hub) AddFault(f Fault) (string, error) {
	if err := f.Validate(); err != nil {
		return "", fmt.Errorf("add fault: %w", err)
	}
	if f.Do == Refuse {
		for _, e := range h.endsOf(f.Kind) {
			if e.given {
				return "", fmt.Errorf("add fault: the %s's listener was given and could not be opened again: use down", e.name)
			}
		}
	}
	added := h.faults.add(f)
	for _, e := range h.endsOf(f.Kind) {
		switch f.Do {
		case Down:
			e.resetAll()
		case Refuse:
			h.stats.change(func(s *Stats) { s.Faulted++ })
			e.shut()
		}
	}
	return added.id, nil
}

// MustFault is AddFault for tests: it panics on a fault that is not valid.
func (h *Hub) MustFault(f Fault) string {
	id, err := h.AddFault(f)
	if err != nil {
		panic(err)
	}
	return id
}

// ClearFault ends the fault with that id; an empty id ends all. Requests that hang in it go on.
// The error is that of opening a closed port again.
func (h *Hub) ClearFault(id string) error {
	h.faults.clear(id)
	for i, e := range h.ends {
		if e.name != endpointName(i) || h.refused(e) {
			continue
		}
		if err := e.reopen(); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hub) refused(e *endpoint) bool {
	for _, f := range h.faults.all() {
		if f.Do != Refuse {
			continue
		}
		if slices.Contains(h.endsOf(f.Kind), e) {
			return true
		}
	}
	return false
}

// isDown tells whether a new connection is to be dropped.
func (h *Hub) isDown(e *endpoint) bool {
	met := h.faults.take(func(f Fault) bool {
		if f.Do != Down && f.Do != Refuse {
			return false
		}
		return slices.Contains(h.endsOf(f.Kind), e)
	})
	if len(met) == 0 {
		return false
	}
	h.stats.change(func(s *Stats) { s.Faulted++ })
	return true
}

// endsOf returns the endpoints that requests of a kind go to.
func (h *Hub) endsOf(kind Kind) []*endpoint {
	switch {
	case kind == Any:
		all := h.ends[:1:1]
		for i, e := range h.ends {
			if i > 0 && e.name == endpointName(i) {
				all = append(all, e)
			}
		}
		return all
	case kind == Token:
		return []*endpoint{h.ends[authEnd]}
	case kind == Blob && !h.cfg.NoRedirect:
		return []*endpoint{h.ends[cdnEnd]}
	}
	return []*endpoint{h.ends[registryEnd]}
}

// early returns the faults that meet a request before its token is looked at, late the others.
func (h *Hub) early(q request) []*fault { return h.met(q, true) }

func (h *Hub) late(q request) []*fault { return h.met(q, false) }

func (h *Hub) met(q request, wantAny bool) []*fault {
	met := h.faults.take(func(f Fault) bool {
		return f.Do != Down && f.Do != Refuse && (f.Kind == Any) == wantAny && f.meets(q)
	})
	if len(met) > 0 {
		h.stats.change(func(s *Stats) { s.Faulted++ })
	}
	return met
}
