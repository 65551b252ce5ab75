// Package s3 delivers messages into a bucket of an object store that speaks S3:
// Amazon's, MinIO, Ceph and others. Each message is one object, byte for byte as
// received, with its envelope as metadata.
//
// The key of the object is made from the message's ID, so that a message that is
// delivered again (see delivery.Adapter) replaces its object by the same one, and
// never makes a second. Whatever goes wrong is a retry, never a reject: a missing
// bucket and a wrong secret can be mended.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

// Config is where messages go. Endpoint and Bucket are required.
type Config struct {
	// Endpoint is the store's URL, such as https://s3.eu-central-1.amazonaws.com.
	// http sends the text in clear.
	Endpoint string
	Bucket   string
	// Key is how objects are named: {id} stands for the message's ID, {date} for
	// the day when it was received, in UTC, as 2006/01/02. Required is {id};
	// "" is "{date}/{id}.eml".
	Key string
	// Region is the store's; "" asks it.
	Region string

	// AccessKey and SecretKey sign requests. Without them the credentials are
	// those of the machine's role, which its metadata service tells.
	AccessKey, SecretKey string

	// Notify is told of each object when it is there; nil is nobody. Its error is
	// the verdict: when it is to be told again, the message is tried again, and the
	// object, which is there, is not sent a second time. When it rejects, the
	// object stays.
	Notify func(ctx context.Context, m *queue.Message, o Object) error

	// Transport makes the connections; nil is the library's, with TLS 1.2.
	Transport http.RoundTripper
}

// Object is where a message lies.
type Object struct {
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	ETag     string `json:"etag"`
	Size     int64  `json:"size"`
}

// Adapter puts messages into one bucket. It is safe for use by many goroutines.
type Adapter struct {
	client   *minio.Client
	endpoint string
	bucket   string
	key      string
	notify   func(ctx context.Context, m *queue.Message, o Object) error
}

var _ delivery.Adapter = (*Adapter)(nil)

// DefaultKey is Config.Key when it is "".
const DefaultKey = "{date}/{id}.eml"

// New returns an Adapter. It connects to nothing.
func New(cfg Config) (*Adapter, error) {
	a := &Adapter{endpoint: cfg.Endpoint, bucket: cfg.Bucket, key: cfg.Key, notify: cfg.Notify}
	if a.key == "" {
		a.key = DefaultKey
	}
	u, err := url.Parse(cfg.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("s3: the endpoint is no URL: write https://host, such as https://s3.eu-central-1.amazonaws.com")
	case u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "":
		return nil, errors.New("s3: the endpoint is more than scheme, host and port: the bucket and the keys are given by themselves")
	case cfg.Bucket == "":
		return nil, errors.New("s3: no bucket")
	case !strings.Contains(a.key, "{id}"):
		return nil, fmt.Errorf("s3: key %q has no {id}: messages would replace each other", a.key)
	case (cfg.AccessKey == "") != (cfg.SecretKey == ""):
		return nil, errors.New("s3: of access key and secret key one is given: give both, or none for the machine's role")
	}
	if name := strings.NewReplacer("{id}", "", "{date}", "").Replace(a.key); strings.ContainsAny(name, "{}") {
		return nil, fmt.Errorf("s3: key %q: only {id} and {date} stand for something", a.key)
	}
	creds := credentials.NewIAM("")
	if cfg.AccessKey != "" {
		creds = credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, "")
	}
	a.client, err = minio.New(u.Host, &minio.Options{Creds: creds, Secure: u.Scheme == "https", Region: cfg.Region, Transport: cfg.Transport,
		MaxRetries: 1}) // the pool tries again
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return a, nil
}

// Deliver puts m into the bucket, and then tells who is to be told. See
// delivery.Adapter.
func (a *Adapter) Deliver(ctx context.Context, m *queue.Message) error {
	o := Object{Endpoint: a.endpoint, Bucket: a.bucket, Key: a.keyOf(m), Size: m.Size}
	if err := a.deliver(ctx, m, o); err != nil {
		return fmt.Errorf("s3: %s/%s: %w", a.bucket, o.Key, err)
	}
	return nil
}

func (a *Adapter) deliver(ctx context.Context, m *queue.Message, o Object) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("not begun: %w", err)
	}
	there := false
	if m.Attempt > 1 {
		var err error
		if there, err = a.there(ctx, m, &o); err != nil {
			return err
		}
	}
	if !there {
		if err := a.put(ctx, m, &o); err != nil {
			return err
		}
	}
	if a.notify == nil {
		return nil
	}
	if err := a.notify(ctx, m, o); err != nil {
		return fmt.Errorf("the object is there, and its notice failed: %w", err)
	}
	return nil
}

// there reports whether an earlier attempt has put m, whether it knew that or not.
// Recipients that have been settled since do not matter: the object stays as it was.
func (a *Adapter) there(ctx context.Context, m *queue.Message, o *Object) (bool, error) {
	info, err := a.client.StatObject(ctx, a.bucket, o.Key, minio.StatObjectOptions{})
	if err != nil {
		if code := minio.ToErrorResponse(err).Code; code == minio.NoSuchKey || code == "NotFound" {
			return false, nil
		}
		return false, fmt.Errorf("look for it: %w", err)
	}
	o.ETag = info.ETag
	return info.Size == m.Size && info.UserMetadata["Incoming-Id"] == ascii(string(m.ID)), nil
}

func (a *Adapter) put(ctx context.Context, m *queue.Message, o *Object) error {
	meta, err := metadata(m)
	if err != nil {
		return err
	}
	text, err := m.Open()
	if err != nil {
		return err
	}
	b := &body{text: text}
	defer b.close() // no reader of m may outlive this call
	// One request whatever the size: it is there whole or not at all, and nothing
	// is held in memory.
	info, err := a.client.PutObject(ctx, a.bucket, o.Key, struct{ io.Reader }{b}, m.Size,
		minio.PutObjectOptions{ContentType: "message/rfc822", UserMetadata: meta, DisableMultipart: true})
	if fault := b.fault(); fault != nil {
		return fault // the store must not have the last word on what it did not get
	}
	if err != nil {
		if end := context.Cause(ctx); end != nil && !errors.Is(err, end) {
			err = fmt.Errorf("%w (%w)", end, err)
		}
		return fmt.Errorf("put: %w", err)
	}
	o.ETag = info.ETag
	return nil
}

// keyOf is the key of m's object.
func (a *Adapter) keyOf(m *queue.Message) string {
	return strings.NewReplacer("{id}", safe(string(m.ID)), "{date}", m.ReceivedAt.UTC().Format("2006/01/02")).Replace(a.key)
}

// safe is an ID as a part of a key: any octet with a meaning somewhere as %XX. IDs
// that we make have none.
func safe(id string) string {
	var b strings.Builder
	for i := range len(id) {
		c := id[i]
		if '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_' || c == '.' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// body is a message's text, which may be closed while the transport still reads.
type body struct {
	mu     sync.Mutex
	text   io.ReadCloser
	closed bool
	err    error
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errors.New("the request is over")
	}
	n, err := b.text.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// fault is what the storage failed with.
func (b *body) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *body) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	_ = b.text.Close() // it was only read
}
