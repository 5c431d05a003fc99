// Command p2psim runs the piece scheduler of package swarm in a farm of simulated hosts and
// prints how close they come to the bound of peer-to-peer distribution.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: 0 done, 1 failed, 2 wrong usage.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "p2psim:", err)
		return 2
	}
	if o.help {
		return 0
	}
	return simulate(o, stdout, stderr)
}
