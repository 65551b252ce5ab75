package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"
)

// session is a client that a test holds in its hand.
type session struct {
	conn net.Conn
	in   *bufio.Reader
}

// dialSession connects and says lines, each after the reply to the one before;
// the reply to the last is read too.
func dialSession(ctx context.Context, addr string, lines ...string) (*session, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	s := &session{conn: c, in: bufio.NewReader(c)}
	if _, err := s.reply(); err != nil {
		return nil, fmt.Errorf("banner: %w", err)
	}
	for _, line := range lines {
		if _, err := s.say(line); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	return s, nil
}

// say says a line and returns the last line of the reply.
func (s *session) say(line string) (string, error) {
	if _, err := fmt.Fprintf(s.conn, "%s\r\n", line); err != nil {
		return "", err
	}
	return s.reply()
}

func (s *session) reply() (string, error) {
	for {
		line, err := s.line()
		if err != nil || len(line) < 4 || line[3] == ' ' {
			return line, err
		}
	}
}

func (s *session) line() (string, error) {
	line, err := s.in.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// matches reports whether text has what the pattern says.
func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }
