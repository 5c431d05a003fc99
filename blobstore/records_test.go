package blobstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

func TestRecordsSurviveARestartAndExpire(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	if err := errors.Join(
		s.PutRecord("tag", "nginx:1", []byte("sha256:1"), time.Time{}),
		s.PutRecord("tag", "nginx:1", []byte("sha256:2"), time.Time{}),
		s.PutRecord("tag", "old", []byte("x"), time.Now().Add(-time.Second)),
		s.PutRecord("tags", "empty", nil, time.Now().Add(time.Hour)),
	); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		got, stored, err := s.Record("tag", "nginx:1")
		if err != nil || string(got) != "sha256:2" || time.Since(stored) > time.Minute {
			t.Errorf("%s: Record = %q, %v, %v; want the last value", when, got, stored, err)
		}
		if _, _, err := s.Record("tag", "old"); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("%s: expired Record = %v; want oci.ErrNotFound", when, err)
		}
		if got, _, err := s.Record("tags", "empty"); err != nil || len(got) != 0 {
			t.Errorf("%s: empty Record = %q, %v; want it", when, got, err)
		}
	}
	check("at once")
	_ = s.Close()
	s = openDir(t, dir, nil)
	check("after a restart")
	s.DropRecord("tag", "nginx:1")
	if _, _, err := s.Record("tag", "nginx:1"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Record after DropRecord = %v; want oci.ErrNotFound", err)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	s := openStore(t, func(c *blobstore.Config) { c.MaxRecords, c.MaxRecordBytes = 100, 10_000 })
	for k := range 1000 {
		if err := s.PutRecord("tag", fmt.Sprint(k), make([]byte, 50), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	left := 0
	for k := range 1000 {
		if _, _, err := s.Record("tag", fmt.Sprint(k)); err == nil {
			left++
		}
	}
	if _, _, err := s.Record("tag", "999"); err != nil || left > 100 || left < 80 {
		t.Errorf("%d records left, the last one: %v; want 80 to 100 with the last", left, err)
	}
	if err := s.PutRecord("tag", "large", make([]byte, 9000), time.Time{}); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("PutRecord of a large value = %v; want oci.ErrTooLarge", err)
	}
}
