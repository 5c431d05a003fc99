package main

import (
	"os"
	"testing"
)

func TestProcessorTimeIsReadPastAnyName(t *testing.T) {
	stat := "4321 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 17 0 0 20 0 1 0 99\n"
	if got, err := cpuTicks([]byte(stat)); err != nil || got != 267 {
		t.Errorf("cpuTicks(%q) = %d, %v; want 267", stat, got, err)
	}
	if _, err := cpuTicks([]byte("4321 (x) S 1")); err == nil {
		t.Error("a text that is too short was taken")
	}
}

func TestWaitingForADiskIsIdle(t *testing.T) {
	// user nice system idle iowait irq softirq steal guest guest_nice
	idle, total := parseCPUTimes("cpu  10 1 20 60 5 1 2 1 7 0")
	if idle != 65 || total != 100 {
		t.Errorf("idle %d of %d; want 65 of 100", idle, total)
	}
}

func TestOwnMemoryCanBeRead(t *testing.T) {
	n, err := memoryOf(os.Getpid(), "RssAnon")
	if err != nil || n < 1<<20 || n > 1<<40 {
		t.Errorf("RssAnon of this process = %d, %v", n, err)
	}
	if _, err := memoryOf(os.Getpid(), "NoSuchField"); err == nil {
		t.Error("a field that does not exist was read")
	}
}
