package recipients

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// URL is a source that asks an application over HTTP.
type URL struct {
	url    url.URL
	client *http.Client
}

// OpenURL is the application at a URL of http or https. About an address it is
// asked by
//
//	GET URL?address=name%40example.org
//
// the address in the form of Source.Known, behind what query the URL has. Its
// answer is the status:
//
//   - 200: the address exists;
//   - 404 with the header field Incoming-Verdict: reject: it does not;
//   - anything else, a redirect and a 404 without that field too: it cannot be told
//     now. A deployment or a proxy says 404 by itself, and all mail of that time
//     would be refused for good.
//
// A user and password in the URL are sent as Basic authorization; neither these nor
// the query are shown in errors. client makes the requests; nil is one that keeps
// connections for reuse and heeds no proxy of the environment. No redirect is
// followed. Nothing is asked yet.
func OpenURL(rawURL string, client *http.Client) (*URL, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return nil, errors.New("recipients: the URL cannot be parsed: write it as https://host/path, with special characters of a user or password as %XX")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("recipients: a URL of scheme %q: use https:// or http://", u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("recipients: a URL without a host: write it as %s://host/path", u.Scheme)
	case u.Query().Has("address"):
		return nil, errors.New("recipients: the URL has an address in its query, which is where the recipient stands: leave it out")
	}
	s := &URL{url: *u, client: new(http.Client)}
	if client != nil {
		*s.client = *client
	}
	if s.client.Transport == nil {
		s.client.Transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: atOnce,
			IdleConnTimeout:     90 * time.Second,
		}
	}
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s, nil
}

// Known implements Source.
func (s *URL) Known(ctx context.Context, address string) (bool, error) {
	there, err := s.get(ctx, address)
	if err != nil {
		return false, fmt.Errorf("ask %s: %w", s, err)
	}
	return there, nil
}

// String is the URL without what may be secret in it.
func (s *URL) String() string { return s.url.Scheme + "://" + s.url.Host + s.url.EscapedPath() }

func (s *URL) get(ctx context.Context, address string) (bool, error) {
	u := s.url
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "address=" + url.QueryEscape(address)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false, errors.New("no request can be made of it")
	}
	req.Header.Set("User-Agent", "Incoming")
	resp, err := s.client.Do(req)
	if err != nil {
		if told := (*url.Error)(nil); errors.As(err, &told) {
			err = told.Err // without the URL
		}
		return false, err
	}
	defer resp.Body.Close() // it was only read
	// The rest of a short answer is read, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // the status is the answer
	switch {
	case resp.StatusCode == http.StatusOK:
		return true, nil
	case resp.StatusCode != http.StatusNotFound:
		return false, fmt.Errorf("%d is neither 200 nor 404", resp.StatusCode)
	case resp.Header.Get("Incoming-Verdict") != "reject":
		return false, errors.New("404 without Incoming-Verdict: reject")
	}
	return false, nil
}
