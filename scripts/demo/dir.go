package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dirPrefix begins the names of the demo's temporary directories. The id of the process that uses one follows, unless it
// is to be kept.
const dirPrefix = "p2p-demo-"

// makeDir makes a temporary directory for this process.
func makeDir(keep bool) (string, error) {
	owner := strconv.Itoa(os.Getpid())
	if keep {
		owner = "kept"
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%s-", dirPrefix, owner))
}

// removeAbandoned removes what demos have left behind in dir that were killed, or lost their machine.
func removeAbandoned(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, dirPrefix+"*-*"))
	for _, path := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), dirPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(path) // what cannot be removed is somebody else's
		}
	}
}
