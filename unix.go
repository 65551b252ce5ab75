package incoming

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// unixPath is the path of an address of a unix socket.
func unixPath(address string) (path string, is bool) {
	return strings.CutPrefix(address, "unix:")
}

// defaultSocketMode lets the owner and the group of a socket connect.
const defaultSocketMode fs.FileMode = 0o660

// listenUnix listens on a socket file, which is removed when the listener is
// closed. One that a dead process left is removed before; one that answers, and
// a file that is no socket, are errors.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if mode == 0 {
		mode = defaultSocketMode
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// The mode is set before bind, which is when Linux makes the file of it;
	// elsewhere, where that is refused, at once after.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.Fchmod(int(fd), uint32(mode.Perm())) // the Chmod below is for where this fails
		})
	}}
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// removeStale removes a socket on which nobody listens.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way and no socket; move it", path)
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("another process listens on %s; stop it, or give another path", path), c.Close())
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("whether another process listens on %s cannot be told: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the socket of a dead process is in the way: %w", err)
	}
	return nil
}
