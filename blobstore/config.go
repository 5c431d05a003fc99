package blobstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// A Config says where a store lives and how much it may take.
type Config struct {
	Dir    string // directory of the store; made when missing
	Issuer string // this node's id, written into piece lists that the store computes

	MaxBytes     int64   // bytes that cached blobs, whole and partial, may take together; 0: no limit
	MaxHosted    int64   // bytes that hosted blobs and uploads may take together; 0: no limit
	MinFreeBytes int64   // bytes of the file system that cached blobs leave to others; 0: none
	HostedFree   int64   // bytes of it that hosted blobs and uploads leave; 0: none
	HighMark     float64 // share of MaxBytes at which eviction starts; default 0.95
	LowMark      float64 // share of MaxBytes at which eviction ends; default 0.85

	ScrubInterval time.Duration // a blob checked longer ago counts as unchecked; default 30 days
	ScrubRate     int64         // bytes a second that the background scrub reads; default 2 MiB, 0: no background scrub
	SyncInterval  time.Duration // how often partial blobs and the index are put down; default 1 s
	PartialTTL    time.Duration // a partial blob that no one used for so long is let go; default 24 h

	MemoryWindow int64         // bytes of pieces that one partial blob keeps in memory when it cannot use the disk; default 16 MiB
	MemoryTotal  int64         // bytes that all such partial blobs share; each still gets two pieces; default 64 MiB
	MemoryStall  time.Duration // a reader that took nothing for so long no longer holds such a window; default 10 s

	ManifestCache  int64 // bytes of hot manifests in memory; default 8 MiB
	MaxRecords     int   // records that are kept; default 20,000
	MaxRecordBytes int64 // bytes of values of records that are kept; default 64 MiB

	MaxUpload    int64         // bytes of the largest blob that can be uploaded; 0: no limit
	MaxUploads   int           // uploads that may be going on, abandoned ones counted; default 4096
	UploadExpiry time.Duration // an upload that no one went on with for so long is removed; default 24 h

	// MayDrop asks the owners which of these blobs may be evicted, and returns those. Nil: all. It is called by Run
	// alone. Under pressure (the hard limit is reached) the least valuable go unasked.
	MayDrop func(context.Context, []oci.Digest) []oci.Digest
	// OnDrop hears of a whole blob that was evicted, asked for or not. Called without locks; must not block.
	OnDrop func(oci.Digest)
	// OnRot hears of a piece on disk that turned out to be wrong: the blob is partial again and lacks that piece. The
	// piece is -1 when the whole blob had to go. Called without locks; may call the store.
	OnRot func(d oci.Digest, piece int)
}

// Default is a config for dir with every default filled in and no limits on the disk.
func Default(dir string) Config {
	return Config{
		Dir: dir, HighMark: 0.95, LowMark: 0.85,
		ScrubInterval: 30 * 24 * time.Hour, ScrubRate: 2 << 20,
		SyncInterval: time.Second, PartialTTL: 24 * time.Hour,
		MemoryWindow: 16 << 20, MemoryTotal: 64 << 20, MemoryStall: 10 * time.Second,
		ManifestCache: 8 << 20, MaxRecords: 20_000, MaxRecordBytes: 64 << 20,
		MaxUploads: 4096, UploadExpiry: 24 * time.Hour,
	}
}

// filled is c with defaults in the place of zeros where zero means nothing.
func (c Config) filled() Config {
	d := Default(c.Dir)
	fill(&c.HighMark, d.HighMark)
	fill(&c.LowMark, min(d.LowMark, c.HighMark))
	fill(&c.ScrubInterval, d.ScrubInterval)
	fill(&c.SyncInterval, d.SyncInterval)
	fill(&c.PartialTTL, d.PartialTTL)
	fill(&c.MemoryWindow, d.MemoryWindow)
	fill(&c.MemoryTotal, d.MemoryTotal)
	fill(&c.MemoryStall, d.MemoryStall)
	fill(&c.ManifestCache, d.ManifestCache)
	fill(&c.MaxRecords, d.MaxRecords)
	fill(&c.MaxRecordBytes, d.MaxRecordBytes)
	fill(&c.MaxUploads, d.MaxUploads)
	fill(&c.UploadExpiry, d.UploadExpiry)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every problem of c at once. Zeros stand for the defaults.
func (c Config) Validate() error {
	f := c.filled()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("blob store: "+format, args...))
		}
	}
	check(c.Dir != "", "no directory")
	check(c.MaxBytes >= 0, "size limit %d is negative", c.MaxBytes)
	check(c.MaxHosted >= 0, "size limit of what is hosted %d is negative", c.MaxHosted)
	check(c.MinFreeBytes >= 0 && c.HostedFree >= 0, "free space to leave %d, %d is negative", c.MinFreeBytes, c.HostedFree)
	check(f.HighMark > 0 && f.HighMark <= 1, "high mark %v is not within 0 to 1", f.HighMark)
	check(f.LowMark > 0 && f.LowMark <= f.HighMark, "low mark %v is not within 0 to the high mark %v", f.LowMark, f.HighMark)
	check(c.ScrubRate >= 0, "scrub rate %d is negative", c.ScrubRate)
	for name, v := range map[string]time.Duration{
		"scrub interval": f.ScrubInterval, "sync interval": f.SyncInterval,
		"time to keep partial blobs": f.PartialTTL, "memory stall": f.MemoryStall,
		"time to keep uploads": f.UploadExpiry,
	} {
		check(v > 0, "%s %v is negative", name, v)
	}
	check(f.MemoryWindow > 0 && f.MemoryTotal > 0, "memory window %d of %d is negative", c.MemoryWindow, c.MemoryTotal)
	check(f.ManifestCache > 0 && f.MaxRecords > 0 && f.MaxRecordBytes > 0, "a limit of the caches is negative")
	check(c.MaxUpload >= 0 && f.MaxUploads > 0, "a limit of uploads is negative")
	return errors.Join(errs...)
}
