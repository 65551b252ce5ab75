package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/incoming-mx/incoming/delivery"
)

// lingering is how long, after the program has ended, its pipes are kept for
// what it has left running: by then all it wrote itself is in them.
const lingering = 200 * time.Millisecond

// run is one run of the program.
type run struct {
	cmd    *exec.Cmd
	killed atomic.Bool // at the end of ctx

	stdin  *os.File // our end
	stderr *os.File // our end
	fed    chan error
	said   chan string
}

// start starts the program, and the goroutines at its input and its standard
// error, for which wait waits. The pipes are ours and not os/exec's, so that
// its Wait ends with the program, whatever the program has left running.
func (r *run) start(text io.Reader) error {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirIn.Close() // the program has its own
	errs, theirErr, err := os.Pipe()
	if err != nil {
		return errors.Join(err, in.Close())
	}
	defer theirErr.Close() // likewise
	r.stdin, r.stderr = in, errs
	r.cmd.Stdin, r.cmd.Stderr = theirIn, theirErr
	// A group of its own: what the program starts can be ended with it, and a
	// Ctrl-C meant for us does not reach it.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.cmd.Cancel = r.terminate
	if err := r.cmd.Start(); err != nil {
		return errors.Join(err, in.Close(), errs.Close())
	}
	r.fed = make(chan error, 1)
	r.said = make(chan string, 1)
	go func() { r.fed <- r.feed(text) }()
	go func() { r.said <- listen(r.stderr) }()
	return nil
}

// feed writes the message to the program. Its error is the storage's; that the
// program reads no further is none.
func (r *run) feed(text io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := text.Read(buf)
		if err != nil && err != io.EOF {
			// The program must not take the part it has for the whole: it is
			// gone before it can see its input end.
			r.signal(syscall.SIGKILL)
			return errors.Join(err, r.stdin.Close())
		}
		if _, werr := r.stdin.Write(buf[:n]); werr != nil || err == io.EOF {
			_ = r.stdin.Close() // wait may have closed it before
			return nil
		}
	}
}

// listen reads standard error to its end and keeps the last of it.
func listen(f *os.File) string {
	var t tail
	_, _ = io.Copy(&t, f) // ends at the end of file, or at the deadline that wait sets
	return t.String()
}

// wait waits for the program, and for our goroutines, and makes the verdict.
func (r *run) wait(ctx context.Context) error {
	werr := r.cmd.Wait()
	if r.killed.Load() {
		r.signal(syscall.SIGKILL) // the program is gone; so is now what it started
	}
	// Something left running may hold the other ends open for ever.
	now := time.Now()
	endPipe(r.stdin, r.stdin.SetWriteDeadline(now))
	endPipe(r.stderr, r.stderr.SetReadDeadline(now.Add(lingering)))
	readErr, said := <-r.fed, <-r.said
	_ = r.stderr.Close() // all it had to say is read
	switch {
	case readErr != nil:
		return readErr
	case r.killed.Load():
		return fmt.Errorf("stopped: %w%s", context.Cause(ctx), quoted(said))
	case r.cmd.ProcessState == nil:
		return werr
	}
	return verdict(r.cmd.ProcessState, said)
}

// endPipe closes a pipe that has no deadline to end by. It may be closed before.
func endPipe(f *os.File, deadline error) {
	if deadline != nil {
		_ = f.Close() // our end, of which nothing is wanted any more
	}
}

// terminate is called at the end of ctx. After WaitDelay os/exec kills the
// program, and then wait its group.
func (r *run) terminate() error {
	r.killed.Store(true)
	r.signal(syscall.SIGTERM)
	return nil
}

// signal goes to the program and all of its group. That there is none left is
// no error, and no other can be: they are ours.
func (r *run) signal(s syscall.Signal) { _ = syscall.Kill(-r.cmd.Process.Pid, s) }

// verdict reads an exit status. See sysexits.h for the numbers.
func verdict(state *os.ProcessState, said string) error {
	if !state.Exited() {
		return fmt.Errorf("ended by a signal (%s)%s", state, quoted(said))
	}
	code := state.ExitCode()
	err := fmt.Errorf("exit status %d%s", code, quoted(said))
	switch code {
	case 0:
		return nil
	case 65, 67, 68, 69, 77:
		return delivery.Reject(err)
	}
	return err
}

func quoted(said string) string {
	if said == "" {
		return ""
	}
	return fmt.Sprintf(": %q", said)
}

// mayExecute asks the system, which knows of owners, groups and lists.
func mayExecute(file string) bool { return unix.Access(file, unix.X_OK) == nil }
