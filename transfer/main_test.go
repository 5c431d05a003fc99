package transfer

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a goroutine is left after all tests have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
