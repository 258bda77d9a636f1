package threats

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// hostileBombs: layers that are small until they are unpacked.
func hostileBombs() (rows []hostile) {
	bomb := func(name, says string, l func() imagekit.Layer) {
		rows = append(rows, hostile{name: "bomb: " + name, want: unloaded, says: says, image: func(img *imagekit.Image) {
			img.Layers = append(img.Layers, l())
		}})
	}
	const times = "200 times"
	bomb("5 GiB of zeros by gzip", times, func() imagekit.Layer {
		return imagekit.Layer{Raw: repeated(gzipped, header("zeros", 5<<30), make([]byte, 16<<20), 320), MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}
	})
	bomb("512 GiB of zeros by zstd", "unpack to more than", func() imagekit.Layer {
		return imagekit.Layer{Raw: repeated(zstandard, header("zeros", 512<<30), make([]byte, 64<<20), 8192), MediaType: "application/vnd.oci.image.layer.v1.tar+zstd"}
	})
	bomb("behind the end of the tar", times, func() imagekit.Layer {
		return imagekit.Layer{Raw: repeated(zstandard, make([]byte, 1024), make([]byte, 64<<20), 64), MediaType: "application/vnd.oci.image.layer.v1.tar+zstd"}
	})
	bomb("files by the hundred thousand", times, func() imagekit.Layer {
		return imagekit.Layer{Raw: repeated(zstandard, nil, bytes.Repeat(append(header("f", 2048), make([]byte, 2048)...), 40_000), 100), MediaType: "application/vnd.oci.image.layer.v1.tar+zstd"}
	})
	bomb("a sparse file of a petabyte", "unpack to more than", func() imagekit.Layer {
		return imagekit.Layer{Stream: imagekit.SparseBomb("huge", 1<<50)}
	})
	bomb("a hundred sparse files of 2 GiB", "unpack to more than", func() imagekit.Layer {
		return imagekit.Layer{Stream: func(w io.Writer) error {
			for i := range 100 {
				var b bytes.Buffer
				if err := imagekit.SparseBomb(fmt.Sprint("huge", i), 2<<30)(&b); err != nil {
					return err
				}
				if _, err := w.Write(b.Bytes()[:512]); err != nil { // without the end of a tar
					return err
				}
			}
			_, err := w.Write(make([]byte, 1024))
			return err
		}}
	})
	bomb("a window of 2 GiB", "", func() imagekit.Layer {
		// Frame header: no content size, no single segment, window descriptor 2^31.
		return imagekit.Layer{Raw: append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8}, make([]byte, 1000)...), MediaType: "application/vnd.oci.image.layer.v1.tar+zstd"}
	})
	bomb("gzip that is damaged", "damaged", func() imagekit.Layer {
		raw := gzipped(append(header("x", 300_000), noise(300_000)...))
		return imagekit.Layer{Raw: raw[:len(raw)-9], MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}
	})
	bomb("gzip with another sum", "damaged", func() imagekit.Layer {
		raw := gzipped(append(header("x", 512), noise(512)...))
		raw[len(raw)-6] ^= 0xff
		return imagekit.Layer{Raw: raw, MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}
	})
	bomb("zstd that is damaged", "", func() imagekit.Layer {
		raw := zstandard(append(header("x", 300_000), noise(300_000)...))
		return imagekit.Layer{Raw: raw[:len(raw)/2], MediaType: "application/vnd.oci.image.layer.v1.tar+zstd"}
	})
	bomb("gzip in gzip", "damaged", func() imagekit.Layer {
		return imagekit.Layer{Raw: gzipped(gzipped(make([]byte, 10240))), MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}
	})
	bomb("compressed by xz", "damaged", func() imagekit.Layer {
		return imagekit.Layer{Raw: append([]byte("\xfd7zXZ\x00"), noise(4096)...)}
	})
	return rows
}

// header of a file in a tar.
func header(name string, size int64) []byte {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: imagekit.Epoch}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// repeated is a compressed stream out of n times the same: members of gzip and
// frames of zstd can stand one behind the other.
func repeated(compress func([]byte) []byte, head, part []byte, n int) []byte {
	var b bytes.Buffer
	if head != nil {
		b.Write(compress(head))
	}
	b.Write(bytes.Repeat(compress(part), n))
	return b.Bytes()
}

func gzipped(plain []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func zstandard(plain []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	defer w.Close()
	return w.EncodeAll(plain, nil)
}

// noise is n bytes nothing makes smaller, always the same.
func noise(n int) []byte {
	var seed [32]byte
	copy(seed[:], strings.Repeat("seed", 8))
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}
