package threats

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/safe-run/safe-run/tests/imagekit"
)

// member is one entry of an archive.
type member struct {
	tar.Header
	body []byte
}

func document(name, body string) member {
	return member{Header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body: []byte(body)}
}

// hostileArchives: what load is given, in both of its formats.
func hostileArchives() (rows []hostile) {
	add := func(name string, w fate, says string, write func(w io.Writer, b *imagekit.Built) error) {
		rows = append(rows, hostile{name: "archive: " + name, want: w, says: says, check: printed("RAN\n"), write: write})
	}
	// docker's: the image as docker save writes it, with another manifest.json.
	docker := func(name string, w fate, says string, edit func(entry map[string]any)) {
		add("docker, "+name, w, says, func(w io.Writer, b *imagekit.Built) error {
			return rewritten(w, func(w io.Writer) error { return imagekit.WriteDocker(w, b) }, func(m *member) []member {
				if m.Name != "manifest.json" {
					return []member{*m}
				}
				var entries []map[string]any
				if err := json.Unmarshal(m.body, &entries); err != nil {
					panic(err)
				}
				edit(entries[0])
				body, err := json.Marshal(entries)
				if err != nil {
					panic(err)
				}
				return []member{document(m.Name, string(body))}
			})
		})
	}
	docker("as it should be", inert, "", func(map[string]any) {})
	docker("a config on the host", unloaded, "not in it", func(e map[string]any) { e["Config"] = strings.Repeat("../", 30) + "etc/passwd" })
	docker("no config", unloaded, "not in it", func(e map[string]any) { e["Config"] = "" })
	docker("no layers", unloaded, "", func(e map[string]any) { e["Layers"] = nil })
	docker("layers on the host", unloaded, "not in it", func(e map[string]any) { e["Layers"] = []string{"/etc/shadow", "../../etc/shadow"} })
	docker("layers of another type", unloaded, "decoded", func(e map[string]any) { e["Layers"] = "x" })
	docker("five thousand layers", unloaded, "limit", func(e map[string]any) {
		l := e["Layers"].([]any)
		for range 5000 {
			l = append(l, l[0])
		}
		e["Layers"] = l
	})
	docker("a layer that is the config", unrunOrInert, "", func(e map[string]any) { e["Layers"] = []any{e["Config"]} })
	docker("a layer more, that is the config", unloaded, "", func(e map[string]any) { e["Layers"] = append(e["Layers"].([]any), e["Config"]) })
	docker("a config that is a layer", unloaded, "", func(e map[string]any) { e["Config"] = e["Layers"].([]any)[0] })
	for _, tag := range []string{"\x1b[2Jbad", strings.Repeat("a", 5000), "../../x", "x:y:z", "UPPER", "sha256:" + strings.Repeat("1b", 32), "x@sha256:" + strings.Repeat("0", 64), "-x", "a\nb"} {
		docker(fmt.Sprintf("a name like %.24q", tag), unloaded, "", func(e map[string]any) { e["RepoTags"] = []string{tag} })
	}
	docker("a thousand names", unloaded, "256", func(e map[string]any) {
		var tags []string
		for i := range 1000 {
			tags = append(tags, fmt.Sprint("hostile-many-", i))
		}
		e["RepoTags"] = tags
	})
	oci := func(name string, w fate, says string, edit func(m *member) []member) {
		add(name, w, says, func(w io.Writer, b *imagekit.Built) error {
			return rewritten(w, func(w io.Writer) error { return imagekit.WriteOCI(w, b) }, edit)
		})
	}
	only := func(file string, edit func(m *member) []member) func(*member) []member {
		return func(m *member) []member {
			if m.Name != file {
				return []member{*m}
			}
			return edit(m)
		}
	}
	instead := func(file, body string) func(*member) []member {
		return only(file, func(*member) []member { return []member{document(file, body)} })
	}
	also := func(more ...member) func(*member) []member {
		return only(ocispec.ImageIndexFile, func(m *member) []member { return append(more, *m) })
	}
	oci("without an index", unloaded, "neither", only(ocispec.ImageIndexFile, func(*member) []member { return nil }))
	oci("without its version", unloaded, "oci-layout", only(ocispec.ImageLayoutFile, func(*member) []member { return nil }))
	oci("of version 9", unloaded, "version", instead(ocispec.ImageLayoutFile, `{"imageLayoutVersion":"9.0.0"}`))
	oci("index is a list", unloaded, "", instead(ocispec.ImageIndexFile, `[]`))
	oci("index is empty", unloaded, "", instead(ocispec.ImageIndexFile, `{}`))
	oci("index of 5 MiB", unloaded, "the limit is", only(ocispec.ImageIndexFile, func(m *member) []member {
		return []member{document(m.Name, `{"x":"`+strings.Repeat("x", 5<<20)+`"}`)}
	}))
	oci("index of a million values", unloaded, "JSON values", only(ocispec.ImageIndexFile, func(m *member) []member {
		return []member{document(m.Name, `{"manifests":[0`+strings.Repeat(",0", 1_000_000)+`]}`)}
	}))
	oci("a device in it", unloaded, "neither file", also(member{Header: tar.Header{Name: "dev", Typeflag: tar.TypeBlock, Devmajor: 8}}))
	oci("links out of it", unrunOrInert, "", also(
		member{Header: tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}}, member{Header: tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}},
		document("a", "x"), document(strings.Repeat("../", 30)+"tmp/hostile", "x"),
	))
	oci("a file of a terabyte", unloaded, "more than", also(member{Header: tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 1 << 40}}))
	oci("a long name", unloaded, "a name of", also(document(strings.Repeat("x/", 1000)+"x", "x")))
	var many []member
	for i := range 5000 {
		many = append(many, document(fmt.Sprint("f", i), ""))
	}
	oci("five thousand files", unloaded, "more than 4096 files", also(many...))
	add("blobs under wrong names", unloaded, "not there", func(w io.Writer, b *imagekit.Built) error {
		wrong := *b
		wrong.Blobs = map[digest.Digest][]byte{}
		for d, blob := range b.Blobs {
			wrong.Blobs[d] = append([]byte(" "), blob...)
		}
		return imagekit.WriteOCI(w, &wrong)
	})
	add("a thousand images", unloaded, "256", func(w io.Writer, b *imagekit.Built) error {
		var all []*imagekit.Built
		for i := range 1000 {
			one := *b
			one.Name = fmt.Sprint("hostile-many-", i)
			all = append(all, &one)
		}
		return imagekit.WriteOCI(w, all...)
	})
	plain := func(b *imagekit.Built) []byte {
		var buf bytes.Buffer
		if err := imagekit.WriteOCI(&buf, b); err != nil {
			panic(err)
		}
		return buf.Bytes()
	}
	bytesOf := func(name, says string, what func(b *imagekit.Built) []byte) {
		add(name, unloaded, says, func(w io.Writer, b *imagekit.Built) error {
			_, err := w.Write(what(b))
			return err
		})
	}
	bytesOf("nothing", "", func(*imagekit.Built) []byte { return nil })
	bytesOf("text", "not a valid tar", func(*imagekit.Built) []byte { return []byte(strings.Repeat("hello ", 10_000)) })
	bytesOf("escape codes", "", func(*imagekit.Built) []byte { return []byte(strings.Repeat("\x1b[2J", 1000)) })
	bytesOf("cut", "", func(b *imagekit.Built) []byte { p := plain(b); return p[:len(p)/2] })
	bytesOf("cut, by gzip", "", func(b *imagekit.Built) []byte { p := gzipped(plain(b)); return p[:len(p)/2] })
	bytesOf("a program of xz", "", func(b *imagekit.Built) []byte { return append([]byte("\xfd7zXZ\x00"), plain(b)...) })
	// Written out, this would fill most disks before it is found to be no image.
	bytesOf("60 GiB of zeros by zstd", "", func(*imagekit.Built) []byte {
		return repeated(zstandard, header("blobs/x", 60<<30), make([]byte, 64<<20), 960)
	})
	bytesOf("5 GiB of zeros by gzip", "times", func(*imagekit.Built) []byte {
		return repeated(gzipped, header("blobs/x", 5<<30), make([]byte, 16<<20), 320)
	})
	bytesOf("a sparse file", "", func(b *imagekit.Built) []byte {
		records := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.realsize", "1099511627776")
		return slices.Concat(paxHeader('x', records), header("x", 512), make([]byte, 512), plain(b))
	})
	bytesOf("zeros without end", "", func(*imagekit.Built) []byte {
		return repeated(zstandard, nil, make([]byte, 64<<20), 960)
	})
	bytesOf("an endless list", "more than 4096 files", func(*imagekit.Built) []byte {
		return repeated(zstandard, nil, bytes.Repeat(header("f", 0), 100_000), 1000)
	})
	add("by gzip, as it should be", inert, "", func(w io.Writer, b *imagekit.Built) error {
		_, err := w.Write(gzipped(plain(b)))
		return err
	})
	return rows
}

// rewritten passes each entry of an archive through edit.
func rewritten(w io.Writer, write func(io.Writer) error, edit func(*member) []member) error {
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		return err
	}
	tr, tw := tar.NewReader(&buf), tar.NewWriter(w)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return tw.Close()
		}
		if err != nil {
			return err
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		for _, m := range edit(&member{*h, body}) {
			if err := tw.WriteHeader(&m.Header); err != nil {
				return err
			}
			if _, err := tw.Write(m.body); err != nil {
				return err
			}
			if int64(len(m.body)) < m.Size {
				return nil // a header that lies: what follows is not there
			}
		}
	}
}
