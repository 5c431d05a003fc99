package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

func TestAFileInABusyFolderIsReadAnew(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "first")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var read []time.Duration
		begin, changes, done := time.Now(), make(chan fsnotify.Event), make(chan struct{})
		r := &reloader{
			files: []string{secret}, log: slog.New(slog.DiscardHandler),
			reload: func() { read = append(read, time.Since(begin)) },
		}
		go func() {
			defer close(done)
			r.follow(ctx, changes)
		}()
		synctest.Wait() // it has seen the file as it is
		write(t, secret, "the second one")
		for range 100 { // ten seconds in which the folder is never quiet
			changes <- fsnotify.Event{Name: "another file"}
			time.Sleep(settle / 2)
		}
		time.Sleep(time.Minute)
		cancel()
		<-done
		if len(read) != 1 || read[0] > 2*time.Second {
			t.Errorf("a file that has changed once was read after %v; want once, after 2 s at most", read)
		}
	})
}

func TestAFolderThatIsQuietIsNotWaitedForLong(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "first")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var read []time.Time
		changes, done := make(chan fsnotify.Event), make(chan struct{})
		r := &reloader{
			files: []string{secret}, log: slog.New(slog.DiscardHandler), reload: func() { read = append(read, time.Now()) },
		}
		go func() {
			defer close(done)
			r.follow(ctx, changes)
		}()
		synctest.Wait()
		for i := range 3 { // each long after the one before
			write(t, secret, "another one"[:4+i])
			changes <- fsnotify.Event{}
			changed := time.Now()
			time.Sleep(settle)
			synctest.Wait()
			if len(read) != i+1 || read[i].Sub(changed) != settle {
				t.Fatalf("change %d: read %v; want it %v later", i, read, settle)
			}
			time.Sleep(time.Minute)
		}
		cancel()
		<-done
	})
}
