package registryapi

import "net/http/httptest"

// RetryAfter is the header that a client with that User-Agent gets with err.
func RetryAfter(err error, userAgent string) string {
	w := httptest.NewRecorder()
	failureOf(err, kindManifest).forClient(userAgent).write(w)
	return w.Header().Get("Retry-After")
}
