package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/safe-run/safe-run/internal/fail"
)

// Bounds of one tar entry. PATH_MAX is 4096; xattrs of an inode are at most
// 64 KiB on the file systems there are.
const (
	maxTarPath   = 4096
	maxTarDepth  = 256
	maxTarXattrs = 64 << 10
	zstdWindow   = 32 << 20 // builders use 8 MiB at most; this is memory of the decoder
)

// tally is what layers would take on disk, added up over the layers of an
// image while they are read in parallel.
type tally struct {
	stream atomic.Int64 // bytes of the tar streams
	disk   atomic.Int64 // bytes of the files, in blocks
	files  atomic.Int64
}

// scanLayer reads a layer blob of the given size as the unpacker will, without
// writing anything: it counts bytes and files and gives the digest of the
// uncompressed stream. It stops as soon as a limit is passed.
func scanLayer(ctx context.Context, blob io.Reader, size int64, lim Limits, t *tally) (digest.Digest, error) {
	plain, closePlain, err := decompress(blob)
	if err != nil {
		return "", bad("a layer cannot be decompressed: %v", cleanText(err.Error()))
	}
	defer closePlain()
	sum := digest.Canonical.Digester()
	r := io.TeeReader(&boundedReader{ctx: ctx, r: plain, size: size, lim: lim, t: t}, sum.Hash())
	if err := scanTar(r, lim, t); err != nil {
		var known *fail.Error
		if errors.As(err, &known) || ctx.Err() != nil {
			return "", wrap(fail.Internal, err, "read a layer")
		}
		return "", bad("a layer is damaged: %v", cleanText(err.Error()))
	}
	// What follows the end of the tar is part of the digest, and costs the
	// unpacker time as well.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", wrap(fail.Refused, err, "image refused: a layer cannot be read")
	}
	return sum.Digest(), nil
}

func scanTar(r io.Reader, lim Limits, t *tally) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n := t.files.Add(1); n > lim.Files {
			return bad("its layers hold more than %d files", lim.Files)
		}
		if len(h.Name) > maxTarPath || len(h.Linkname) > maxTarPath {
			return bad("a layer holds a path of more than %d bytes", maxTarPath)
		}
		if strings.Count(path.Clean(h.Name), "/") > maxTarDepth {
			return bad("a layer holds a path deeper than %d directories", maxTarDepth)
		}
		xattrs := 0
		for k, v := range h.PAXRecords {
			xattrs += len(k) + len(v)
		}
		if xattrs > maxTarXattrs {
			return bad("a layer holds a file with more than %d bytes of attributes", maxTarXattrs)
		}
		// A sparse file states more than the stream holds, and is written out
		// in full.
		const block = 4096
		if n := t.disk.Add((h.Size + block - 1) / block * block); h.Size > lim.Unpacked || n > lim.Unpacked {
			return bad("its layers unpack to more than %d bytes", lim.Unpacked)
		}
	}
}

// boundedReader ends a stream that has grown beyond what its blob can
// honestly hold.
type boundedReader struct {
	ctx  context.Context
	r    io.Reader
	size int64 // of the blob
	n    int64
	lim  Limits
	t    *tally
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	if b.t.stream.Add(int64(n)) > b.lim.Unpacked {
		return 0, bad("its layers unpack to more than %d bytes", b.lim.Unpacked)
	}
	if b.n > b.lim.RatioFloor && b.n/b.lim.Ratio > b.size {
		return 0, bad("a layer of %d bytes unpacks to more than %d times that", b.size, b.lim.Ratio)
	}
	return n, err
}

// decompress finds out how a stream is compressed, by its first bytes as
// containerd does, and gives the plain stream. It starts no program (containerd's
// own helper looks for unpigz in PATH).
func decompress(r io.Reader) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 0x08}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { z.Close() }, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return br, func() {}, nil
}
