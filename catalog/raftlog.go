package catalog

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLog hands what raft says to the node's log. What raft calls an error is often one lost packet.
type raftLog struct {
	hclog.Logger // its null logger, for what is not overridden
	log          *slog.Logger
}

func newRaftLog(log *slog.Logger) hclog.Logger {
	return &raftLog{hclog.NewNullLogger(), log}
}

func (l *raftLog) say(level slog.Level, text string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	l.log.LogAttrs(context.Background(), level, "raft", slog.String("detail", text), slog.Group("raft", args...))
}

func (l *raftLog) Trace(text string, args ...any) { l.say(slog.LevelDebug-4, text, args) }
func (l *raftLog) Debug(text string, args ...any) { l.say(slog.LevelDebug-4, text, args) }
func (l *raftLog) Info(text string, args ...any)  { l.say(slog.LevelDebug, text, args) }
func (l *raftLog) Warn(text string, args ...any)  { l.say(slog.LevelDebug, text, args) }
func (l *raftLog) Error(text string, args ...any) { l.say(slog.LevelInfo, text, args) }

func (l *raftLog) With(...any) hclog.Logger       { return l }
func (l *raftLog) Named(string) hclog.Logger      { return l }
func (l *raftLog) ResetNamed(string) hclog.Logger { return l }
func (l *raftLog) Log(_ hclog.Level, text string, args ...any) {
	l.say(slog.LevelDebug, text, args)
}

func (l *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
