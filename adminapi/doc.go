// Package adminapi is the door for operators: what p2pctl, Prometheus and a service manager ask of a node.
//
// Every node answers for the farm. It asks all members for their own view in parallel, with one deadline, and puts the
// answers into one document with the farm's sums and a list of what an operator should look at; a member that does not
// answer is shown as such. So whoever reads that document, be it p2pctl or a script, goes by the same judgement.
//
// The door speaks HTTP with JSON, on a unix socket or on loopback; docs/admin-api.md describes it. On loopback it can only
// be read: whoever may open the socket's file may change the farm. The listeners, how a member is asked and what a node
// knows of itself are left to others, through Farm; what the farm hosts, through Catalog.
//
// A Handler and a Client may be shared by goroutines.
package adminapi
