package imagekit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // go-digest looks the algorithm up at run time
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Entry is one file of a layer. The zero Type is a regular file, or a
// directory if Path ends in a slash.
type Entry struct {
	Path     string
	Type     byte // a tar type flag: tar.TypeReg, TypeDir, TypeSymlink, TypeLink, TypeChar, ...
	Mode     int64
	UID, GID int
	Body     []byte
	Zeros    int64  // instead of Body: that many zero bytes
	Link     string // target of a symlink or hard link
	Major    int64
	Minor    int64
	Xattrs   map[string]string // user.x, security.capability, trusted.overlay.opaque, ...
	ModTime  time.Time         // zero: Epoch
}

// Layer is one file system change set.
type Layer struct {
	Entries     []Entry
	Compression string // "", "gzip" or "zstd"
	MediaType   string // replaces the media type that fits
	Annotations map[string]string
	// Stream writes further bytes of the uncompressed stream after the
	// entries: more tar, or no tar at all.
	Stream func(io.Writer) error
	// Raw, if set, is the blob as stored; nothing else is looked at but DiffID.
	Raw    []byte
	DiffID digest.Digest // replaces the real one in the configuration
}

// Dir, File, Symlink and Hardlink make the usual entries.
func Dir(path string, mode int64) Entry {
	return Entry{Path: strings.TrimSuffix(path, "/") + "/", Type: tar.TypeDir, Mode: mode}
}

// File makes a regular file owned by root.
func File(path string, mode int64, body string) Entry {
	return Entry{Path: path, Type: tar.TypeReg, Mode: mode, Body: []byte(body)}
}

// Symlink makes path point to target.
func Symlink(path, target string) Entry {
	return Entry{Path: path, Type: tar.TypeSymlink, Mode: 0o777, Link: target}
}

// Hardlink makes path a second name of target, a path inside the layer.
func Hardlink(path, target string) Entry {
	return Entry{Path: path, Type: tar.TypeLink, Mode: 0o755, Link: target}
}

// Device makes a character ('c') or block ('b') device node.
func Device(path string, kind byte, major, minor, mode int64) Entry {
	t := byte(tar.TypeChar)
	if kind == 'b' {
		t = tar.TypeBlock
	}
	return Entry{Path: path, Type: t, Mode: mode, Major: major, Minor: minor}
}

func (l Layer) mediaType(docker bool) string {
	switch {
	case l.MediaType != "":
		return l.MediaType
	case docker && l.Compression == "":
		return DockerLayer
	case docker && l.Compression == "zstd":
		return DockerLayer + ".zstd"
	case docker:
		return DockerLayerGzip
	case l.Compression == "gzip":
		return ocispec.MediaTypeImageLayerGzip
	case l.Compression == "zstd":
		return ocispec.MediaTypeImageLayerZstd
	}
	return ocispec.MediaTypeImageLayer
}

func (l Layer) build() (blob []byte, diffID digest.Digest, err error) {
	if l.Raw != nil {
		if l.DiffID == "" {
			l.DiffID = digest.FromBytes(l.Raw)
		}
		return l.Raw, l.DiffID, nil
	}
	var buf bytes.Buffer
	var packed io.WriteCloser
	switch l.Compression {
	case "":
		packed = nopCloser{&buf}
	case "gzip":
		packed = gzip.NewWriter(&buf)
	case "zstd":
		// One goroutine, so that the output does not depend on the machine.
		if packed, err = zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1)); err != nil {
			return nil, "", err
		}
	default:
		return nil, "", fmt.Errorf("unknown compression %q", l.Compression)
	}
	sum := digest.Canonical.Digester()
	w := io.MultiWriter(packed, sum.Hash())
	if err := l.writeTar(w); err != nil {
		return nil, "", err
	}
	if l.Stream != nil {
		if err := l.Stream(w); err != nil {
			return nil, "", err
		}
	}
	if err := packed.Close(); err != nil {
		return nil, "", err
	}
	diffID = sum.Digest()
	if l.DiffID != "" {
		diffID = l.DiffID
	}
	return buf.Bytes(), diffID, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func (l Layer) writeTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, e := range l.Entries {
		if err := e.write(tw); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
	}
	if l.Stream != nil {
		return tw.Flush() // the stream goes on
	}
	return tw.Close()
}

func (e Entry) write(tw *tar.Writer) error {
	h := &tar.Header{
		Name: e.Path, Typeflag: e.Type, Mode: e.Mode, Uid: e.UID, Gid: e.GID,
		Linkname: e.Link, Devmajor: e.Major, Devminor: e.Minor, ModTime: e.ModTime,
	}
	if h.ModTime.IsZero() {
		h.ModTime = Epoch
	}
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
		if strings.HasSuffix(e.Path, "/") {
			h.Typeflag = tar.TypeDir
		}
	}
	if h.Typeflag == tar.TypeReg {
		h.Size = int64(len(e.Body)) + e.Zeros
	}
	if len(e.Xattrs) > 0 {
		h.Format = tar.FormatPAX
		h.PAXRecords = map[string]string{}
		for _, k := range sortedKeys(e.Xattrs) {
			h.PAXRecords["SCHILY.xattr."+k] = e.Xattrs[k]
		}
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if _, err := tw.Write(e.Body); err != nil {
		return err
	}
	_, err := io.CopyN(tw, zeros{}, e.Zeros)
	return err
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// SparseBomb is a stream for Layer: one file in GNU's sparse format that holds
// no data and claims size bytes, which an unpacker writes out as zeros.
func SparseBomb(path string, size int64) func(io.Writer) error {
	return func(w io.Writer) error {
		var h [512]byte
		copy(h[0:100], path)
		copy(h[100:], "0000644\x000000000\x000000000\x00")
		copy(h[124:], "00000000000\x00") // bytes stored
		copy(h[136:], "00000000000\x00") // mtime
		h[156] = tar.TypeGNUSparse
		copy(h[257:], "ustar  \x00")
		// One empty data block at the end, then the real size in binary.
		putNumber(h[386:398], size)
		putNumber(h[398:410], 0)
		putNumber(h[483:495], size)
		copy(h[148:156], "        ")
		var sum int64
		for _, c := range h {
			sum += int64(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		if _, err := w.Write(h[:]); err != nil {
			return err
		}
		_, err := w.Write(make([]byte, 1024))
		return err
	}
}

// putNumber writes n in GNU tar's base-256 form.
func putNumber(b []byte, n int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte(n)
		n >>= 8
	}
	b[0] |= 0x80
}
