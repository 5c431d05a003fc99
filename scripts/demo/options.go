package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/dustin/go-humanize"

	"github.com/pullonce/pullonce/oci"
)

// options say what is shown.
type options struct {
	p2pd     string  // path of the program
	nodes    int     // hosts of the farm
	rate     int64   // of the stand-in's link in bytes a second; 0: no limit
	layers   []int64 // sizes in bytes of the image that the stand-in has
	hub      bool    // the real Docker Hub instead of the stand-in
	push     bool    // an image is pushed to the farm, and no upstream has it
	image    image   // what is pulled
	jsonFile string  // where the report goes as JSON; "": nowhere
	anyPorts bool    // free ports instead of those that nodes have by default
	keep     bool    // the temporary directory stays
}

// An image is a name at Docker Hub, or at the farm itself.
type image struct {
	repository string // such as library/python or farm.internal/team/app
	reference  string // tag or digest
}

func (i image) String() string {
	if strings.Contains(i.reference, ":") {
		return i.repository + "@" + i.reference
	}
	return i.repository + ":" + i.reference
}

const (
	standInImage = "library/demo:1"
	hubImage     = "library/python:3"
	pushedImage  = "farm.internal/team/app:1"
	// maxNodes is what one machine can be asked for; 127.0.0.1 to 127.0.0.64.
	maxNodes = 64
	// minNodes is with how many one may be lost of which each has a copy, and still most of them decide.
	minNodes = 3
	// standInLayers are 400 MiB in layers as images have them: one large, the others ever smaller.
	standInLayers = "312MiB,48MiB,24MiB,12MiB,4MiB"
)

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var nodes, rate, layers, name string
	set := flag.NewFlagSet("demo", flag.ContinueOnError)
	set.SetOutput(io.Discard) // an error is one line; all flags are for those who ask
	set.StringVar(&o.p2pd, "p2pd", "bin/p2pd", "`path` of the node's program")
	set.StringVar(&nodes, "nodes", "5", "`number` of hosts")
	set.StringVar(&rate, "rate", "50MB", "`bytes` a second of the stand-in's link, such as 100MB; 0: no limit")
	set.StringVar(&layers, "layers", standInLayers, "`sizes` of the layers of the stand-in's image")
	set.BoolVar(&o.hub, "hub", false, "pull from the real Docker Hub")
	set.BoolVar(&o.push, "push", false, "push an image to the farm, and lose the host that it was pushed to")
	set.StringVar(&name, "image", "", "`name` of the image at Docker Hub, with -hub (default "+hubImage+")")
	set.StringVar(&o.jsonFile, "json", "", "`file` for the report as JSON")
	set.BoolVar(&o.anyPorts, "any-ports", false, "free ports instead of 5000, 5080, 7946 and 7947")
	set.BoolVar(&o.keep, "keep", false, "keep the temporary directory with the nodes' data and logs")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			set.SetOutput(stderr)
			set.Usage()
		}
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	return o, errors.Join(o.setNodes(nodes), o.setRate(rate), o.setLayers(layers), o.setImage(name))
}

func (o *options) setNodes(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxNodes {
		return fmt.Errorf("nodes %q: want a number from 1 to %d", text, maxNodes)
	}
	if o.push && n < minNodes {
		return fmt.Errorf("nodes %d: want %d or more with -push (make: PUSH=1), so that one can be lost", n, minNodes)
	}
	o.nodes = n
	return nil
}

// hostsInAll is how many there will have been at the end: a new one takes the place of the one that is lost.
func (o options) hostsInAll() int {
	if o.push {
		return o.nodes + 1
	}
	return o.nodes
}

// minRate is the slowest link in bytes a second: the image takes 7 minutes over it.
const minRate = 1e6

func (o *options) setRate(text string) error {
	n, err := humanize.ParseBytes(strings.TrimSuffix(text, "/s"))
	if err != nil || n > 1<<50 {
		return fmt.Errorf("rate %q: want bytes a second, such as 50MB or 6MiB, or 0 for no limit", text)
	}
	if n > 0 && n < minRate {
		meant := "want 1MB or more"
		if number := strings.TrimRight(strings.TrimSuffix(text, "/s"), " Bb"); strings.Trim(number, "0123456789") == "" {
			meant = "did you mean " + number + "MB?"
		}
		return fmt.Errorf("rate %s is %s/s; %s", text, size(int64(n)), meant)
	}
	o.rate = int64(n)
	if o.hub || o.push {
		o.rate = 0 // nobody knows, or there is none
	}
	return nil
}

// minLayer is the smallest layer: an archive with one file has three blocks beside the file's.
const minLayer = 4096

func (o *options) setLayers(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		n, err := humanize.ParseBytes(strings.TrimSpace(part))
		if err != nil || n < minLayer || n > 1<<40 {
			return fmt.Errorf("layer of size %q: want %d bytes or more, such as 48MiB", part, minLayer)
		}
		o.layers = append(o.layers, int64(n))
	}
	return nil
}

func (o *options) setImage(name string) error {
	switch {
	case o.hub && o.push:
		return errors.New("an image comes from Docker Hub (-hub, make: HUB=1) or is pushed (-push, make: PUSH=1), not both")
	case name != "" && !o.hub:
		return errors.New("an image can be named with -hub (make: HUB=1) only: the stand-in's is made on the spot")
	case o.push:
		repository, tag, _ := strings.Cut(pushedImage, ":")
		o.image = image{repository, tag}
		return nil
	case !o.hub:
		name = standInImage
	case name == "":
		name = hubImage
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return fmt.Errorf("image %q: %w", name, err)
	}
	if reference.Domain(named) != oci.DockerHub {
		return fmt.Errorf("image %q: only images of %s", name, oci.DockerHub)
	}
	o.image = image{repository: reference.Path(named), reference: "latest"}
	if tagged, ok := named.(reference.Tagged); ok {
		o.image.reference = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		o.image.reference = digested.Digest().String()
	}
	return nil
}
