package transfer

import "github.com/pullonce/pullonce/oci"

// Rights go along with what one node asks another for, so that a node can ask an upstream in the name of who wants a
// repository that the farm itself may not read. They are secrets, and this room does not look into them. Its methods must
// not block.
type Rights interface {
	// Of is in whose name the upstream may be asked for a repository; "" when that is the farm's own.
	Of(repo oci.Repository) string
	// Hear is told what a member sent along.
	Hear(repo oci.Repository, right string)
}

// rightOf is what to send along with a question about a repository.
func (e *Engine) rightOf(repo oci.Repository) string {
	if e.rights == nil || repo == (oci.Repository{}) {
		return ""
	}
	return e.rights.Of(repo)
}

// hearRight passes on what a member sent along.
func (e *Engine) hearRight(repo oci.Repository, right string) {
	if e.rights != nil && right != "" {
		e.rights.Hear(repo, right)
	}
}
