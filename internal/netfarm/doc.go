// Package netfarm makes a farm of hosts on one machine: each host is a network namespace of its own, joined to the
// others by a switch in a further namespace, with links that can be shaped and cut. Real programs run on the hosts:
// nodes, container engines, and the Docker Hub stand-in.
//
// The central idea is that a program on a host sees nothing of the machine's network: it has the host's one address
// in 10.77.0.0/24, the names that the host was told, its own mounts and, where asked for, its own process ids. So many
// farms run side by side, and a farm that was not closed (its program was killed) is removed by the next New.
//
// It needs root and iproute2; Missing tells. It leaves to its users what runs on the hosts and what that proves. A Farm
// and its hosts may be used by many goroutines at once.
package netfarm
