package incoming_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing that a server started may outlive it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
