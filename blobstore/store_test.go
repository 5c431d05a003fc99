package blobstore_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
)

// quiet is a log that only shows under -v.
func quiet(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testLog struct{ t testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	if testing.Verbose() {
		_, _ = os.Stderr.Write(line)
	}
	return len(line), nil
}

func openStore(t testing.TB, change func(*blobstore.Config)) *blobstore.Store {
	t.Helper()
	return openDir(t, t.TempDir(), change)
}

func openDir(t testing.TB, dir string, change func(*blobstore.Config)) *blobstore.Store {
	t.Helper()
	cfg := blobstore.Default(dir)
	cfg.Issuer = "n1"
	if change != nil {
		change(&cfg)
	}
	s, err := blobstore.Open(cfg, quiet(t))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v; want nil", err)
		}
	})
	return s
}

func TestContractOnDisk(t *testing.T) {
	blobstoretest.Run(t, blobstoretest.Mode{Keeps: true, Open: func(t *testing.T) *blobstore.Store {
		return openStore(t, nil)
	}})
}

func TestContractInMemory(t *testing.T) {
	blobstoretest.Run(t, blobstoretest.Mode{Open: func(t *testing.T) *blobstore.Store {
		return openStore(t, func(c *blobstore.Config) {
			c.MaxBytes = 1
			c.MemoryWindow = 4 * blobstoretest.PieceSize
		})
	}})
}
