package main

import (
	"context"
	"fmt"
	"io"
)

// A pushReport is what was there before and after the pull of an image that was pushed.
type pushReport struct {
	Catalog catalogReport `json:"catalog"` // before the push

	Host           string  `json:"host"` // that was pushed to
	Seconds        float64 `json:"seconds"`
	Bytes          int64   `json:"bytes"`
	BytesPerSecond float64 `json:"bytes_per_second"`

	Blobs       int          `json:"blobs"`        // that were pushed, the manifest among them
	Copies      int          `json:"copies"`       // that the farm keeps of each
	BelowCopies int          `json:"below_copies"` // blobs that have fewer
	Kept        []keptReport `json:"kept"`

	Lost  *lostReport  `json:"lost"` // null where it did not come to that, as is moved
	Moved *movedReport `json:"moved"`
}

// A keptReport is what one host keeps of what was pushed, as its node says.
type keptReport struct {
	Host        string `json:"host"`
	Blobs       int    `json:"hosted_blobs"`
	Bytes       int64  `json:"hosted_bytes"`
	BelowCopies int    `json:"below_copies"` // each blob is counted by one node
}

// A lostReport is what happened when the host was lost that was pushed to.
type lostReport struct {
	Host    string        `json:"host"`
	Catalog catalogReport `json:"catalog"` // afterwards
	By      *hostReport   `json:"by"`      // the new host, which then pulled
}

// A movedReport is how the tag was moved.
type movedReport struct {
	Host       string  `json:"host"`        // at which it was moved
	Digest     string  `json:"digest"`      // of the manifest that it names now
	Seconds    float64 `json:"seconds"`     // that the push took
	Hosts      int     `json:"hosts"`       // that gave this digest when they were asked
	AskSeconds float64 `json:"ask_seconds"` // until all had answered
}

// keep asks all nodes what they keep.
func (p *pushReport) keep(ctx context.Context, hosts []*host) error {
	p.Kept, p.BelowCopies = nil, 0
	for _, h := range hosts {
		s, err := h.status(ctx)
		if err != nil {
			return err
		}
		if s.Hosted == nil {
			return fmt.Errorf("the node of %s takes no pushes", h.name)
		}
		p.Kept = append(p.Kept, keptReport{h.name, s.Hosted.Blobs, s.Hosted.Bytes, s.Hosted.BelowCopies})
		p.Copies = s.Hosted.Copies
		p.BelowCopies += s.Hosted.BelowCopies
	}
	return nil
}

// sum is what all hosts keep together.
func (p *pushReport) sum() (blobs int, bytes int64) {
	for _, k := range p.Kept {
		blobs += k.Blobs
		bytes += k.Bytes
	}
	return blobs, bytes
}

// enough says how many copies are missing.
func (p *pushReport) enough() error {
	if have, _ := p.sum(); have < p.Copies*p.Blobs {
		return fmt.Errorf("%d copies of %d blobs are kept; want %d", have, p.Blobs, p.Copies*p.Blobs)
	}
	return nil
}

// below says which blobs nodes miss copies of.
func (p *pushReport) below() error {
	if p.BelowCopies > 0 {
		return fmt.Errorf("nodes count %d blobs with fewer than %d copies", p.BelowCopies, p.Copies)
	}
	return nil
}

// print shows to people what is kept where.
func (p *pushReport) print(out io.Writer) {
	rows := []string{"host\thosted blobs\thosted bytes\tbelow copies"}
	for _, k := range p.Kept {
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t%d", k.Host, k.Blobs, size(k.Bytes), k.BelowCopies))
	}
	printTable(out, rows)
	blobs, bytes := p.sum()
	_, _ = fmt.Fprintf(out, "\nPushed          %s in %.2f s, %s, answered when %d hosts had each blob on disk\n",
		size(p.Bytes), p.Seconds, perSecond(p.BytesPerSecond), p.Copies)
	_, _ = fmt.Fprintf(out, "Copies          %d of %d blobs, %s; %d blobs have fewer than %d\n\n", blobs, p.Blobs, size(bytes), p.BelowCopies, p.Copies)
}
