package testfarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

func TestAHostedUploadSurvivesTheRestartOfItsNode(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 3})
	h := hostedAt(t, f.Nodes[1], "restarted/app")
	data := randomBytes(5000, 3*mib+100)
	d := sum256(data)
	const part = 2*mib + 77
	location := h.want(http.StatusAccepted, http.MethodPatch, h.start(), bytes.NewReader(data[:part])).Header.Get("Location")
	h.node.Restart()
	f.Settle()
	f.SettleCatalog(f.Nodes...)
	r := h.want(http.StatusNoContent, http.MethodGet, location, nil)
	if want := fmt.Sprintf("0-%d", part-1); r.Header.Get("Range") != want || r.Header.Get("Location") == "" {
		t.Fatalf("GET of an upload after the restart of its node: %v; want Range %s and a Location", r.Header, want)
	}
	h.refused(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", http.MethodPatch, location, bytes.NewReader(data[part+1:]),
		"Content-Range", fmt.Sprintf("%d-%d", part+1, len(data)-1))
	h.want(http.StatusCreated, http.MethodPut, digested(r.Header.Get("Location"), d), bytes.NewReader(data[part:]),
		"Content-Range", fmt.Sprintf("%d-%d", part, len(data)-1))
	pullAt(t, h.name, d, f.Nodes...)
}

// TestAHostedPushThatWasRefusedIsAskedForAgain is of clients that have sent all their bytes when the farm turns out not
// to be able to keep them, first for want of copies and then of a quorum, and that do not send them again.
func TestAHostedPushThatWasRefusedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for name, least := range map[string]int{"copies": 2, "quorum": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := testfarm.StartHosting(t, testfarm.Options{Nodes: 3, Change: func(_ int, c *node.Config) {
				c.Hosted.MinCopies = least
			}})
			h := hostedAt(t, f.Nodes[0], "again/app")
			config := h.blob([]byte(`{"architecture":"amd64","os":"linux"}`))
			one, two := randomBytes(5100, 2*mib), randomBytes(5101, 300<<10)
			begun, open := h.start(), h.start()
			sent := h.want(http.StatusAccepted, http.MethodPatch, begun, bytes.NewReader(one)).Header.Get("Location")
			ready := manifestOf(t, oci.MediaTypeOCIManifest, map[string]any{"config": config, "layers": []oci.Descriptor{}})
			atOnce(t, func() error { f.Nodes[1].Stop(); return nil }, func() error { f.Nodes[2].Stop(); return nil })

			h.unavailable(http.MethodPut, digested(sent, sum256(one)), nil)
			h.unavailable(http.MethodPut, digested(open, sum256(two)), bytes.NewReader(two))
			h.unavailable(http.MethodPut, "/manifests/1", bytes.NewReader(ready.raw), "Content-Type", ready.mediaType)
			h.unavailable(http.MethodPut, digested(sent, sum256(one)), nil) // asking too early does no harm

			f.Nodes[1].Start()
			f.Nodes[2].Start()
			f.Settle()
			f.SettleCatalog(f.Nodes...)
			for _, n := range f.Nodes {
				for _, d := range []oci.Digest{sum256(one), sum256(two)} {
					if name == "quorum" {
						continue // a leader that had not noticed yet may have taken it
					}
					h.at(n).want(http.StatusNotFound, http.MethodHead, "/blobs/"+d.String(), nil)
				}
				h.at(n).want(http.StatusNotFound, http.MethodHead, "/manifests/1", nil, acceptAll...)
			}
			r := h.want(http.StatusNoContent, http.MethodGet, sent, nil)
			if want := fmt.Sprintf("0-%d", len(one)-1); r.Header.Get("Range") != want {
				t.Errorf("GET of the upload: Range %q; want %q", r.Header.Get("Range"), want)
			}
			h.refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPut, digested(open, sum256(one)), nil)
			h.want(http.StatusCreated, http.MethodPut, digested(sent, sum256(one)), nil)
			pullAt(t, h.name, sum256(one), f.Nodes...)
			h.put(ready, "1")
			for _, n := range f.Nodes {
				if err := h.at(n).pull("1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
