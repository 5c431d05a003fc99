package node

// Reload has everything that was read of credentials read anew when it is next needed. It may be called at any time.
func (n *Node) Reload() {
	for _, c := range n.upstreams.clients {
		c.Forget()
	}
}
