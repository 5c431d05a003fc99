package catalog

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

func TestStreamsOfOtherReplicasAreRefused(t *testing.T) {
	right := &catalogpb.Preface{Protocol: 1, Catalog: "c", FromNode: "a", FromRaft: "ra", ToNode: "b", ToRaft: "rb"}
	for name, row := range map[string]struct {
		change func(p *catalogpb.Preface)
		want   string
	}{
		"right":               {func(*catalogpb.Preface) {}, ""},
		"later protocol":      {func(p *catalogpb.Preface) { p.Protocol = 2 }, "protocol 2"},
		"another catalog":     {func(p *catalogpb.Preface) { p.Catalog = "d" }, "another catalog"},
		"another node":        {func(p *catalogpb.Preface) { p.ToNode = "c" }, "took its place"},
		"an emptied replica":  {func(p *catalogpb.Preface) { p.ToRaft = "older" }, "took its place"},
		"without any address": {func(p *catalogpb.Preface) { p.Reset() }, "protocol 0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLayer("c", "rb", Config{Node: "b"}, Parts{})
				defer l.Close()
				here, there := net.Pipe()
				defer here.Close()
				go func() {
					if c, err := l.Accept(); err == nil {
						_ = c.Close()
					}
				}()
				done := make(chan error, 1)
				go func() {
					done <- receive(t.Context(), there, time.Second, func() *layer { return l })
				}()
				preface := proto.Clone(right).(*catalogpb.Preface)
				row.change(preface)
				if err := writeFrame(here, preface); err != nil {
					t.Fatal(err)
				}
				reply := &catalogpb.PrefaceReply{}
				if err := readFrame(here, reply); err != nil {
					t.Fatal(err)
				}
				err := <-done
				if got := reply.GetRefusal(); (row.want == "") != (got == "") || !strings.Contains(got, row.want) || (err != nil) != (row.want != "") {
					t.Errorf("refusal = %q, %v; want %q", got, err, row.want)
				}
			})
		})
	}
}

func TestAStreamThatSaysNothingIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		start := time.Now()
		err := receive(t.Context(), there, time.Second, func() *layer { return nil })
		if took := time.Since(start); err == nil || took != time.Second {
			t.Errorf("receive = %v after %v; want an error after 1s", err, took)
		}
	})
}

func FuzzPreface(f *testing.F) {
	var right bytes.Buffer
	if err := writeFrame(&right, &catalogpb.Preface{Protocol: 1, Catalog: "c", ToNode: "n"}); err != nil {
		f.Fatal(err)
	}
	f.Add(right.Bytes())
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := &catalogpb.Preface{}
		if readFrame(bytes.NewReader(raw), p) != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, p); err != nil {
			t.Skip("unknown fields made it longer")
		}
		q := &catalogpb.Preface{}
		if err := readFrame(&again, q); err != nil || !proto.Equal(p, q) {
			t.Errorf("round trip of %v = %v, %v", p, q, err)
		}
	})
}
