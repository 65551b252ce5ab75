package maildir

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/incoming-mx/incoming/queue"
)

// D23, on a disk that is really full.
func TestAFullDiskIsARetryAndRoomMadeDelivers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mounting a small file system needs more rights: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	a := newAdapter(t, dir+"/mail")
	big := queue.NewMessage(entrySized("A", 1<<20), func() (queue.Raw, error) { return pattern{}, nil })
	err := a.Deliver(context.Background(), big)
	if !errors.Is(err, syscall.ENOSPC) || isRejected(err) || !strings.Contains(err.Error(), dir+"/mail") {
		t.Fatalf("Deliver returned %v, want a retry that names the disk", err)
	}
	if left := append(list(t, dir+"/mail/new"), list(t, dir+"/mail/tmp")...); len(left) != 0 {
		t.Fatalf("left behind: %q", left)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	deliver(t, a, queue.NewMessage(entrySized("A", 1<<20), func() (queue.Raw, error) { return pattern{}, nil }))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	err = a.Deliver(context.Background(), message(entry("B", "", "b@c"), text))
	if !errors.Is(err, syscall.EROFS) || isRejected(err) {
		t.Errorf("on a read-only disk Deliver returned %v, want a retry", err)
	}
}
