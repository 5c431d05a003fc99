package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// clockTick is the unit of processor times in /proc, the same on all machines that Linux runs on today.
const clockTick = 10 * time.Millisecond

// cpuOf is the processor time that processes have used, their threads and waited-for children included.
func cpuOf(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		ticks, err := cpuTicks(raw)
		if err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum += time.Duration(ticks) * clockTick
	}
	return sum, nil
}

// cpuTicks reads user and system time from the text of /proc/PID/stat.
func cpuTicks(stat []byte) (int64, error) {
	// The name in brackets may hold anything; the times are the 12th and 13th field after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("unknown form %q", stat)
	}
	var user, system int64
	if _, err := fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system); err != nil {
		return 0, err
	}
	return user + system, nil
}

// memoryOf is a field of a process's status, such as RssAnon, in bytes.
func memoryOf(pid int, field string) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	for text := range strings.SplitSeq(string(raw), "\n") {
		if name, value, ok := strings.Cut(text, ":"); ok && name == field {
			var kib int64
			_, err := fmt.Sscan(value, &kib)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}

// idleShare measures which part of the machine's processors was idle between its call and that of what it returns.
func idleShare() func() float64 {
	idle0, total0 := cpuTimes()
	return func() float64 {
		idle, total := cpuTimes()
		if total == total0 {
			return 0
		}
		return float64(idle-idle0) / float64(total-total0)
	}
}

func cpuTimes() (idle, total int64) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	return parseCPUTimes(first)
}

// parseCPUTimes reads the first line of /proc/stat: waiting for a disk is idle, too. Time of guests, the last two
// fields, is within that of users.
func parseCPUTimes(text string) (idle, total int64) {
	fields := strings.Fields(text)
	for i, field := range fields {
		var v int64
		if _, err := fmt.Sscan(field, &v); err != nil || i > 8 {
			continue
		}
		total += v
		if i == 4 || i == 5 {
			idle += v
		}
	}
	return idle, total
}

// A peak watches how much memory of their own processes take, and keeps the most that any of them had.
type peak struct {
	stop context.CancelFunc
	done sync.WaitGroup
	most int64
}

const sampleEvery = 20 * time.Millisecond

func watchMemory(ctx context.Context, pids ...int) *peak {
	ctx, stop := context.WithCancel(ctx)
	p := &peak{stop: stop}
	p.done.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			for _, pid := range pids {
				if n, err := memoryOf(pid, "RssAnon"); err == nil {
					p.most = max(p.most, n)
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return p
}

// end stops the watch and returns the peak in MiB.
func (p *peak) end() float64 {
	p.stop()
	p.done.Wait()
	return float64(p.most) / (1 << 20)
}
