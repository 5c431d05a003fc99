package netfarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// namePrefix starts the name of every namespace and folder of a farm. The owner follows.
const namePrefix = "pf-"

// ownerOf names a process so that a later one of the same id has another name: PID-START.
func ownerOf(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The name in parentheses may hold anything; the start is the 20th field after it.
	_, rest, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, '('):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat has another form", pid)
	}
	return fmt.Sprintf("%d-%s", pid, fields[19]), nil
}

// orphaned says whether a namespace or folder of that name belongs to a farm whose program is gone.
func orphaned(name string) bool {
	rest, ok := strings.CutPrefix(name, namePrefix)
	parts := strings.SplitN(rest, "-", 3)
	if !ok || len(parts) != 3 {
		return false
	}
	pid, err := strconv.Atoi(parts[0])
	if err != nil || pid <= 0 {
		return false
	}
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	owner, err := ownerOf(pid)
	return err == nil && owner != parts[0]+"-"+parts[1]
}

// reap removes what farms of programs that are gone have left below dir and as namespaces. It is a courtesy: another
// process may be doing the same, so errors are nobody's.
func reap(ctx context.Context, dir string) {
	for _, name := range orphans(namespaceDir) {
		_ = removeNamespace(ctx, name)
	}
	for _, name := range orphans(dir) {
		_ = os.RemoveAll(filepath.Join(dir, name))
	}
}

func orphans(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if orphaned(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names
}
