// Package ask puts a question to another program over HTTP: one POST, one bounded
// answer. It knows neither the question nor what the answer means.
package ask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"
)

// Program is a program that answers over HTTP. It is used by many goroutines at
// once and keeps connections for reuse.
type Program struct {
	url    string
	user   *url.Userinfo
	client http.Client
	most   int64
}

// New is the program at a URL of http or https, whose answers have at most that many
// octets. A user and password in the URL are sent as Basic authorization. Nothing
// is connected by it. Errors do not repeat the URL, which may hold a password.
func New(rawURL string, most int64) (*Program, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return nil, errors.New("the URL cannot be parsed: write it as http://host:port/path, with special characters of a user or password as %XX")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("a URL of scheme %q: use http:// or https://", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("the URL names no host: write it as http://host:port/path")
	}
	p := &Program{user: u.User, most: most}
	u.User = nil
	p.url = u.String()
	p.client.Transport = &http.Transport{
		DialContext:         (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true, // the bound would be of what is compressed
	}
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return p, nil
}

// Host is the URL's scheme and host, as errors and logs may show it.
func (p *Program) Host() string {
	u, _ := url.Parse(p.url) // it was parsed before
	return u.Scheme + "://" + u.Host
}

// CloseIdle closes the connections that are kept for reuse.
func (p *Program) CloseIdle() { p.client.CloseIdleConnections() }

// Post sends size octets of what open opens, and returns the answer to it: of 200,
// or nothing of 204. Any other status is an error, a redirect too, and so is an
// answer past the bound. When a connection that was kept for reuse turns out to be
// closed, the program is asked once more over a new one, and open called again.
func (p *Program) Post(ctx context.Context, header http.Header, size int64, open func() (io.ReadCloser, error)) ([]byte, error) {
	answer, kept, err := p.post(ctx, header, size, open)
	if err != nil && kept && ctx.Err() == nil {
		p.CloseIdle()
		answer, _, err = p.post(ctx, header, size, open)
	}
	return answer, err
}

// post asks once. kept says that a connection kept for reuse broke before there was
// an answer.
func (p *Program) post(ctx context.Context, header http.Header, size int64, open func() (io.ReadCloser, error)) (_ []byte, kept bool, _ error) {
	body, err := open()
	if err != nil {
		return nil, false, err
	}
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { kept = c.Reused }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, p.url, body)
	if err != nil {
		body.Close()
		return nil, false, err
	}
	req.Header, req.ContentLength = header.Clone(), size
	if size == 0 {
		body.Close()
		req.Body = http.NoBody
	}
	if p.user != nil {
		password, _ := p.user.Password()
		req.SetBasicAuth(p.user.Username(), password)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		var named *url.Error // which repeats the URL
		if errors.As(err, &named) {
			err = named.Err
		}
		return nil, kept, err
	}
	defer resp.Body.Close() // it was only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, p.most+1))
	switch {
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent:
		err = fmt.Errorf("answered %s", resp.Status)
	case err != nil:
		err = fmt.Errorf("reading the answer: %w", err)
	case int64(len(answer)) > p.most:
		err = fmt.Errorf("an answer of more than %d octets", p.most)
	}
	return answer, false, err
}
