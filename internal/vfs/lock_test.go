package vfs

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestALockLetGoIsFreeThoughAForkedProcessHasACopy: a descriptor is copied by
// every fork, and closed there only when the new program begins.
func TestALockLetGoIsFreeThoughAForkedProcessHasACopy(t *testing.T) {
	t.Parallel()
	for _, exclusive := range []bool{true, false} {
		name := filepath.Join(t.TempDir(), "lock")
		first, err := OS{}.Lock(name, true)
		if err != nil {
			t.Fatal(err)
		}
		if !exclusive {
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			if first, err = (OS{}).Lock(name, false); err != nil {
				t.Fatal(err)
			}
		}
		forked, err := syscall.Dup(int(first.(*osLock).f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second, err := OS{}.Lock(name, true)
		if err != nil {
			t.Fatalf("exclusive %t: %v", exclusive, err)
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		if err := syscall.Close(forked); err != nil {
			t.Error(err)
		}
	}
}
