package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sort"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/spec"
)

// The cache saves a launch the reading of index, manifest and configuration.
// Its key holds the digest of what the image name points to, so an entry is
// never out of date. It is only ever an accelerator: what is missing, damaged,
// or not owned by us is read again from containerd.
const (
	cacheVersion = "2"
	maxCacheFile = 256 << 10 // bytes; larger configurations are not cached
	maxCacheDir  = 1024      // files; the oldest half is dropped beyond
)

func cacheKey(target ocispec.Descriptor, platform string) string {
	sum := sha256.Sum256([]byte(cacheVersion + "\n" + target.MediaType + "\n" + target.Digest.String() + "\n" + platform))
	return hex.EncodeToString(sum[:])
}

// cacheEntry is a file: its own key, so that a renamed file is not believed,
// and the image. The file begins with the SHA-256 of the rest.
type cacheEntry struct {
	Key   string
	Image spec.Image
}

func readCache(dir, key string) (spec.Image, bool) {
	var none spec.Image
	if dir == "" {
		return none, false
	}
	f, err := os.OpenFile(filepath.Join(dir, key), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return none, false
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || !ours(&st, unix.S_IFREG) || st.Size > maxCacheFile {
		return none, false
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCacheFile))
	if err != nil || len(data) < sha256.Size {
		return none, false
	}
	body := data[sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[:sha256.Size]) {
		return none, false
	}
	var e cacheEntry
	if json.Unmarshal(body, &e) != nil || e.Key != key {
		return none, false
	}
	return e.Image, true
}

// ours says whether a file is of the type, belongs to the user we are, and can
// be written by no one else.
func ours(st *unix.Stat_t, kind uint32) bool {
	return st.Mode&unix.S_IFMT == kind && int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0
}

// writeCache stores an image. It has no error: without the entry the next
// launch is slower, not different.
func writeCache(dir, key string, img spec.Image) {
	if dir == "" {
		return
	}
	img.Name = ""
	body, err := json.Marshal(cacheEntry{Key: key, Image: img})
	if err != nil || len(body)+sha256.Size > maxCacheFile {
		return
	}
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	var st unix.Stat_t
	if unix.Lstat(dir, &st) != nil || !ours(&st, unix.S_IFDIR) {
		return
	}
	trimCache(dir)
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return
	}
	sum := sha256.Sum256(body)
	_, err = f.Write(append(sum[:], body...))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, key))
	}
	if err != nil {
		os.Remove(f.Name())
	}
}

// trimCache drops the oldest half when the directory has grown too large; it
// also ends temporary files of writers that were killed.
func trimCache(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < maxCacheDir {
		return
	}
	age := map[string]int64{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			age[e.Name()] = info.ModTime().UnixNano()
		}
	}
	sort.Slice(entries, func(i, j int) bool { return age[entries[i].Name()] < age[entries[j].Name()] })
	for _, e := range entries[:len(entries)/2] {
		os.Remove(filepath.Join(dir, e.Name()))
	}
}
