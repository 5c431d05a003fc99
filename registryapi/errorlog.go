package registryapi

import (
	"log"
	"log/slog"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// How many lines the server may log of connections that came to nothing: some at once, and one in a while after that. Who
// they are about may be anybody, and must not fill the disk.
const (
	errorLinesPerSec = 0.1
	errorLinesBurst  = 20
)

// fewLines logs what the server says of connections, but not all of it.
type fewLines struct {
	log   *slog.Logger
	limit *rate.Limiter
	left  atomic.Int64 // lines since the last one that was logged
}

func errorLog(to *slog.Logger) *log.Logger {
	return log.New(&fewLines{log: to, limit: rate.NewLimiter(errorLinesPerSec, errorLinesBurst)}, "", 0)
}

// Write takes one line.
func (f *fewLines) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	switch {
	case strings.HasPrefix(text, "http: panic"): // a bug, not a stranger
		f.log.Error("panic at the registry", slog.String("error", text))
	case f.limit.Allow():
		f.log.Warn("connection to the registry came to nothing", slog.String("error", text), slog.Int64("more", f.left.Swap(0)))
	default:
		f.left.Add(1)
	}
	return len(line), nil
}
