package blobstore

import (
	"log/slog"
	"sync/atomic"
)

// A Usage says what the store holds now.
type Usage struct {
	Blobs        int   // whole blobs
	Bytes        int64 // of whole blobs
	Hosted       int   // of whole blobs, those that are hosted
	HostedBytes  int64 // their bytes, which MaxBytes is not for
	Partials     int   // partial blobs, open or not
	PartialBytes int64 // of their pieces that are on disk
	Uploads      int   // uploads that are going on
	UploadBytes  int64 // of those
	MaxBytes     int64 // the budget; 0: none
	FreeBytes    int64 // of the file system, for anyone; -1 when it cannot be told
	InMemory     int   // partial blobs that live in memory
	Alarm        string
}

// Stats count since the store was opened.
type Stats struct {
	Committed    int64 // blobs that became whole
	Evicted      int64 // blobs
	EvictedBytes int64
	Rotten       int64 // pieces that were wrong on disk
	Scrubbed     int64 // bytes checked in the background
	MemoryOnly   int64 // partial blobs that could not use the disk
}

type counters struct {
	committed, evicted, evictedBytes, rotten, scrubbed, memory atomic.Int64
}

// Stats are the counters of now.
func (s *Store) Stats() Stats {
	return Stats{
		Committed: s.count.committed.Load(), Evicted: s.count.evicted.Load(), EvictedBytes: s.count.evictedBytes.Load(),
		Rotten: s.count.rotten.Load(), Scrubbed: s.count.scrubbed.Load(), MemoryOnly: s.count.memory.Load(),
	}
}

// Usage says what the store holds now and, in Alarm, why it cannot keep blobs ("" when it can).
func (s *Store) Usage() Usage {
	s.mu.RLock()
	u := Usage{
		Blobs: len(s.entries), Bytes: s.bytes, Partials: len(s.partials) + len(s.idle), MaxBytes: s.cfg.MaxBytes,
		InMemory: int(s.memoryPartials.Load()), Hosted: len(s.hosted), HostedBytes: s.apart,
	}
	open := make([]*Partial, 0, len(s.partials))
	for _, p := range s.partials {
		open = append(open, p)
	}
	for _, idle := range s.idle {
		u.PartialBytes += idle.bytes
	}
	s.mu.RUnlock()
	for _, p := range open {
		u.PartialBytes += p.diskBytes()
	}
	u.Uploads, u.UploadBytes, _ = s.uploads.total()
	free, err := s.disk.free(s.cfg.Dir)
	if err != nil {
		free = -1
	}
	u.FreeBytes = free
	s.alarmMu.Lock()
	u.Alarm = s.alarm
	s.alarmMu.Unlock()
	return u
}

func (p *Partial) diskBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return 0
	}
	return pieceBytes(p.list, p.state().has)
}

// raise shows an alarm until the disk takes bytes again. Each cause is logged once.
func (s *Store) raise(what string, cause error) {
	text := what + ": " + cause.Error()
	s.alarmMu.Lock()
	fresh := s.alarm == ""
	s.alarm = text
	s.alarmMu.Unlock()
	if fresh {
		s.log.Error("disk cannot be used as it should", slog.String("alarm", text))
	}
}

func (s *Store) lower() {
	s.alarmMu.Lock()
	was := s.alarm
	s.alarm = ""
	s.alarmMu.Unlock()
	if was != "" {
		s.log.Info("disk takes blobs again")
	}
}

func (s *Store) alarmed() bool {
	s.alarmMu.Lock()
	defer s.alarmMu.Unlock()
	return s.alarm != ""
}
