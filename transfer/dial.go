package transfer

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// connectParams retries a lost connection fast: who may be gone is decided by the deadlines of each call. The longest
// wait is well below Config.ProbeTimeout, for a node that is back; gRPC's own way to cut it short, ResetConnectBackoff,
// is not safe beside other calls (v1.85 reads a map that they change).
func connectParams() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 400 * time.Millisecond},
		MinConnectTimeout: 2 * time.Second,
	}
}
