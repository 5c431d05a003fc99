package transfer

import (
	"testing"
	"testing/synctest"
	"time"

	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// A rigStream takes what a meeting point says to a node that has registered.
type rigStream struct {
	transferpb.Transfer_RegisterServer
	beats  int
	inline []byte
}

func (s *rigStream) Send(r *transferpb.RegisterReply) error {
	if r.GetIsInline() {
		s.inline = r.GetInline()
	} else {
		s.beats++
	}
	return nil
}

func TestSmallBlobsCountAgainstTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, d, _ := rigBlob(200 << 10)
		r := newRig(t, func(c *Config) { c.Upload, c.Download = 100<<10, 100<<10 })
		task := r.idle(t, d)
		spend(r.upload, maxMessage) // all that a pause lets through at once
		r.arrived(maxMessage)

		stream := &rigStream{}
		start := time.Now()
		s := &session{e: r.Engine, t: task, stream: stream, out: newOutbox()}
		if err := s.sendInline(t.Context(), data); err != nil || len(stream.inline) != len(data) {
			t.Fatalf("sendInline = %v with %d bytes; want the blob", err, len(stream.inline))
		}
		if took := time.Since(start); took < 2*time.Second || stream.beats == 0 {
			t.Errorf("200 KiB were sent within %v at 100 KiB/s, with %d signs of life; want 2 s and some", took, stream.beats)
		}
		start = time.Now()
		if err := task.takeInline(t.Context(), "owner", data); err != nil || !task.isComplete() {
			t.Fatalf("takeInline = %v; want the blob", err)
		}
		if took := time.Since(start); took >= 2*time.Second {
			t.Errorf("taking 200 KiB took %v after a pause as long as that; want the limit to have recovered", took)
		}
		if got := r.Stats(); got.SentBytes != int64(len(data)) || got.ReceivedBytes != int64(len(data)) {
			t.Errorf("counted %d bytes sent and %d received; want %d each", got.SentBytes, got.ReceivedBytes, len(data))
		}
	})
}

func TestABlobThatComesInlineWaitsForTheDownloadLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, d, _ := rigBlob(200 << 10)
		r := newRig(t, func(c *Config) { c.Download = 100 << 10 })
		task := r.idle(t, d)
		r.arrived(maxMessage)
		start := time.Now()
		if err := task.takeInline(t.Context(), "owner", data); err != nil || !task.isComplete() {
			t.Fatalf("takeInline = %v; want the blob", err)
		}
		if took := time.Since(start); took < 2*time.Second {
			t.Errorf("200 KiB were taken within %v at 100 KiB/s; want 2 s", took)
		}
	})
}
