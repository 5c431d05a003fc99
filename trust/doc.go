// Package trust makes a farm's nodes members of it, and lets only members speak to each other.
//
// A farm has an authority of its own. Every member holds a certificate of it that names the farm and the node, and every
// connection between nodes is TLS 1.3 in which both sides show theirs: what a peer's certificate says is who it is. A
// node becomes a member with a token, which pins the authority before anything is sent to it; certificates are short and
// renew themselves; a revoked node is shut out by every node as soon as that is known to it. A site with a PKI of its own
// brings certificates in files instead.
//
// What the farm has agreed on (authorities, gossip keys, who is revoked) is one State with an epoch; newer ones replace
// older ones. Where it is kept and how it gets to this node is asked through small interfaces, who the peers are as well.
// A Trust may be used by any number of goroutines.
package trust
