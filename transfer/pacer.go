package transfer

import "time"

// A pacer finds how many connections fill the link: it tries more for a while and keeps them when they are faster.
type pacer struct {
	most    int
	width   int // in use now
	kept    int // the best so far
	rate    float64
	settled bool
	since   time.Time
	bytes   int64
}

func newPacer(most int) pacer { return pacer{most: most, width: 1, kept: 1, settled: most < 2} }

// took counts bytes that have arrived and gives the number of connections to use from now on.
func (p *pacer) took(n int, now time.Time) int {
	if p.settled {
		return p.width
	}
	if p.since.IsZero() {
		p.since = now
		return p.width
	}
	p.bytes += int64(n)
	spent := now.Sub(p.since)
	if spent < trial {
		return p.width
	}
	p.compare(float64(p.bytes) / spent.Seconds())
	p.since, p.bytes = now, 0
	return p.width
}

// compare ends a trial that brought rate bytes a second.
func (p *pacer) compare(rate float64) {
	if p.width == 1 || rate >= gain*p.rate {
		p.rate, p.kept = rate, p.width
		if p.width < p.most {
			p.width = min(2*p.width, p.most)
			return
		}
	}
	p.width, p.settled = p.kept, true
}
