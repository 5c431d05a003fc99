package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// libraryLog turns the library's lines into records. What it calls an error is
// often one lost packet, and strangers can cause any number of them: past a few a
// minute they are kept at debug level.
type libraryLog struct {
	log   *slog.Logger
	limit *rate.Limiter
}

func newLibraryLogger(l *slog.Logger) *log.Logger {
	return log.New(&libraryLog{log: l, limit: rate.NewLimiter(rate.Every(time.Minute), 3)}, "", 0)
}

// Write implements io.Writer for one line.
func (l *libraryLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	if strings.HasPrefix(text, "[ERR]") && l.limit.Allow() {
		level = slog.LevelWarn
	}
	if _, rest, ok := strings.Cut(text, "memberlist: "); ok {
		text = rest
	}
	l.log.LogAttrs(context.Background(), level, "gossip trouble", slog.String("detail", text))
	return len(line), nil
}
