package oci_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

func TestErrorsThatCarryFactsAreFoundBehindOthers(t *testing.T) {
	err := fmt.Errorf("pull: %w", &oci.TooManyRequestsError{RetryAfter: time.Minute})
	if limit, ok := errors.AsType[*oci.TooManyRequestsError](err); !ok || limit.RetryAfter != time.Minute {
		t.Errorf("AsType(%v) = %v, %v; want the wait", err, limit, ok)
	}
	d := oci.MustDigest(abc256)
	for piece, want := range map[int]string{-1: "bytes do not match " + abc256, 3: "piece 3 does not match " + abc256} {
		if got := (&oci.MismatchError{Digest: d, Piece: piece}).Error(); got != want {
			t.Errorf("MismatchError of piece %d = %q; want %q", piece, got, want)
		}
	}
	for wait, want := range map[time.Duration]string{0: "too many requests", time.Minute: "too many requests, retry after 1m0s"} {
		if got := (&oci.TooManyRequestsError{RetryAfter: wait}).Error(); got != want {
			t.Errorf("TooManyRequestsError after %v = %q; want %q", wait, got, want)
		}
	}
}
