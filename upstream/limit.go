package upstream

import "golang.org/x/time/rate"

const (
	minBurst = 64 << 10
	maxBurst = 1 << 20 // the piece that most reads ask for
)

// A Limit is a rate in bytes a second that several Clients may share: see Config.Shared.
type Limit struct{ limiter *rate.Limiter }

// NewLimit makes a Limit; nil, which limits nothing, for 0.
func NewLimit(bytesPerSecond int64) *Limit {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &Limit{rate.NewLimiter(rate.Limit(bytesPerSecond), burst(bytesPerSecond))}
}

// burst is how much is read at once under a limit: an eighth of a second's worth, so that streams that share it take
// turns.
func burst(bytesPerSecond int64) int {
	return int(min(max(bytesPerSecond/8, minBurst), maxBurst))
}
