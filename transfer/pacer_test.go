package transfer

import (
	"testing"
	"time"
)

// paced feeds a pacer from a link on which connections bring perConnection bytes a second each, and together at most
// link, and gives the number of connections that it settles on.
func paced(most int, perConnection, link float64) int {
	p := newPacer(most)
	now := time.Unix(0, 0)
	for range 100_000 {
		rate := min(float64(p.width)*perConnection, link)
		const n = 1 << 20
		now = now.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		p.took(n, now)
		if p.settled {
			break
		}
	}
	return p.width
}

func TestThePacerUsesTheConnectionsThatFillTheLink(t *testing.T) {
	for _, c := range []struct {
		name                string
		most                int
		perConnection, link float64
		want                int
	}{
		{"one connection fills the link", 4, 50e6, 50e6, 1},
		{"connections are capped far below the link", 4, 10e6, 1e9, 4},
		{"two connections fill the link", 4, 10e6, 20e6, 2},
		{"only one may be used", 1, 10e6, 1e9, 1},
		{"three may be used", 3, 10e6, 1e9, 3},
	} {
		if got := paced(c.most, c.perConnection, c.link); got != c.want {
			t.Errorf("%s: settled on %d connections; want %d", c.name, got, c.want)
		}
	}
}
