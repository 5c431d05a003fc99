package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A machine says where the figures come from.
type machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Memory    int64  `json:"memory_bytes"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
	Virtual   bool   `json:"virtual"`
	// Load is the load average of one minute at the start: above a few tenths somebody else was working, too.
	Load float64 `json:"load_at_start"`
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Processor: runtime.GOARCH}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for text := range strings.SplitSeq(string(info), "\n") {
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			continue
		}
		switch strings.TrimSpace(name) {
		case "model name":
			m.Processor = strings.TrimSpace(value)
		case "flags":
			m.Virtual = strings.Contains(value, " hypervisor ")
		}
	}
	var kernel unix.Utsname
	if unix.Uname(&kernel) == nil {
		m.Kernel = string(bytes.TrimRight(kernel.Release[:], "\x00"))
	}
	var system unix.Sysinfo_t
	if unix.Sysinfo(&system) == nil {
		m.Memory = int64(system.Totalram) * int64(system.Unit)
	}
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(raw), &m.Load)
	}
	return m
}

func (m machine) String() string {
	kind := ""
	if m.Virtual {
		kind = "virtual, "
	}
	return fmt.Sprintf("%d cores of %s (%s%s), %.0f GiB, Linux %s, %s, load %.2f at the start",
		m.Cores, m.Processor, kind, runtime.GOARCH, float64(m.Memory)/(1<<30), m.Kernel, m.Go, m.Load)
}

// version is the source's, as git names it.
func version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
