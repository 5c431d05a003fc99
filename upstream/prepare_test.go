package upstream_test

import (
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
)

func TestWhatIsPreparedNeedsNoTokenAnyMore(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 1000)
	c := client(t, h.URL(), nil)
	c.Prepare(t.Context(), repo)
	if s := h.Stats(); s.TokenRequests != 0 || s.Challenges != 0 {
		t.Errorf("%d tokens and %d challenges before the registry has asked for any; want none", s.TokenRequests, s.Challenges)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Prepare(t.Context(), repo)
	before := h.Stats()
	got, err := fetch(t.Context(), c, d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "blob", got, data)
	if s := h.Stats(); before.TokenRequests != 1 || s.TokenRequests != 1 || s.Challenges != before.Challenges {
		t.Errorf("%d tokens prepared, %d in all; want one, and no challenge after it", before.TokenRequests, s.TokenRequests)
	}
}
