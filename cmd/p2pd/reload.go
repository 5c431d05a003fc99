package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a folder must be quiet before its files count as written: programs write, rename and link in steps.
// A folder that is never quiet is looked at after settleAtMost.
const (
	settle       = 200 * time.Millisecond
	settleAtMost = 2 * time.Second
)

// A reloader has credentials read anew when their files have changed, or somebody says so.
type reloader struct {
	files   []string
	hangups <-chan os.Signal
	reload  func()
	log     *slog.Logger
}

// run goes on until ctx is done. Folders are watched and not files, since files are replaced by renaming, and as links.
func (r *reloader) run(ctx context.Context) {
	changes, stop := r.watch(ctx)
	defer stop()
	r.follow(ctx, changes)
}

// follow looks at the files when something has happened in their folders.
func (r *reloader) follow(ctx context.Context, changes <-chan fsnotify.Event) {
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	before := r.state()
	var latest time.Time // to look at the files; zero when nothing has happened since
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hangups:
			before = r.state()
			r.do(ctx, "signal")
		case _, ok := <-changes:
			if !ok {
				changes = nil
				continue
			}
			if latest.IsZero() {
				latest = time.Now().Add(settleAtMost)
			}
			if wait := min(settle, time.Until(latest)); wait > 0 {
				quiet.Reset(wait)
			}
		case <-quiet.C:
			latest = time.Time{}
			if now := r.state(); !slices.EqualFunc(now, before, sameFile) {
				before = now
				r.do(ctx, "file")
			}
		}
	}
}

func (r *reloader) do(ctx context.Context, why string) {
	r.reload()
	r.log.LogAttrs(ctx, slog.LevelInfo, "credentials are read anew", slog.String("why", why))
}

// watch tells of everything that happens in the files' folders, as far as they can be watched.
func (r *reloader) watch(ctx context.Context) (changes <-chan fsnotify.Event, stop func()) {
	folders := r.folders()
	if len(folders) == 0 {
		return nil, func() {}
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.warn(ctx, "", err)
		return nil, func() {}
	}
	for _, folder := range folders {
		if err := w.Add(folder); err != nil {
			r.warn(ctx, folder, err)
		}
	}
	drained := make(chan struct{})
	go func() { // an error is of events that were lost; the next one shows what has changed
		defer close(drained)
		for err := range w.Errors {
			r.warn(ctx, "", err)
		}
	}()
	return w.Events, func() {
		_ = w.Close()
		<-drained
	}
}

func (r *reloader) warn(ctx context.Context, folder string, err error) {
	r.log.LogAttrs(ctx, slog.LevelWarn, "changes of credentials are not noticed, send SIGHUP after one",
		slog.String("folder", folder), slog.Any("error", err))
}

// folders are those that the files are in, and those that they are links to.
func (r *reloader) folders() []string {
	var all []string
	for _, file := range r.files {
		all = append(all, filepath.Dir(file))
		if target, err := filepath.EvalSymlinks(file); err == nil {
			all = append(all, filepath.Dir(target))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// state is what tells a file from another, and from what it was.
func (r *reloader) state() []os.FileInfo {
	all := make([]os.FileInfo, len(r.files))
	for i, file := range r.files {
		if info, err := os.Stat(file); err == nil {
			all[i] = info
		}
	}
	return all
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
