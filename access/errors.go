package access

import "github.com/pullonce/pullonce/oci"

// An UnauthorizedError asks the caller for credentials, or for others. It is oci.ErrUnauthorized.
type UnauthorizedError struct {
	// Challenge goes into WWW-Authenticate, such as `Bearer realm="…",service="…",scope="…"`; "" for none, where a client
	// that was asked would send what is meant for somebody else.
	Challenge string
	// Message tells people more; "" for nothing.
	Message string
}

func (e *UnauthorizedError) Error() string {
	if e.Message == "" {
		return oci.ErrUnauthorized.Error()
	}
	return oci.ErrUnauthorized.Error() + ": " + e.Message
}

// Unwrap is oci.ErrUnauthorized.
func (e *UnauthorizedError) Unwrap() error { return oci.ErrUnauthorized }

// A DeniedError refuses a caller and tells people why. It is oci.ErrDenied.
type DeniedError struct{ Message string }

func (e *DeniedError) Error() string { return oci.ErrDenied.Error() + ": " + e.Message }

// Unwrap is oci.ErrDenied.
func (e *DeniedError) Unwrap() error { return oci.ErrDenied }
