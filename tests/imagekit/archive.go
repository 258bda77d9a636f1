package imagekit

import (
	"archive/tar"
	"encoding/json"
	"io"
	"sort"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteDocker writes images as `docker save` did before version 25: a
// manifest.json that lists configuration, tags and layers.
func WriteDocker(w io.Writer, images ...*Built) error {
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	tw := tar.NewWriter(w)
	written := map[string]bool{}
	put := func(name string, body []byte) error {
		if written[name] {
			return nil
		}
		written[name] = true
		return putFile(tw, name, body)
	}
	var manifest []entry
	for _, b := range images {
		e := entry{Config: b.Config.Encoded() + ".json", Layers: []string{}}
		if b.Name != "" {
			e.RepoTags = []string{b.Name}
		}
		for _, l := range b.Layers {
			name := l.Encoded() + "/layer.tar"
			e.Layers = append(e.Layers, name)
			if err := put(name, b.Blobs[l]); err != nil {
				return err
			}
		}
		if err := put(e.Config, b.Blobs[b.Config]); err != nil {
			return err
		}
		manifest = append(manifest, e)
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := put("manifest.json", data); err != nil {
		return err
	}
	return tw.Close()
}

// WriteOCI writes images as an OCI image layout in a tar. Their names go into
// both annotations in use: containerd's full name and image-spec's ref name.
func WriteOCI(w io.Writer, images ...*Built) error {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	blobs := map[digest.Digest][]byte{}
	for _, b := range images {
		root := b.Root
		if b.Name != "" {
			annotations := map[string]string{}
			for k, v := range root.Annotations {
				annotations[k] = v
			}
			annotations["io.containerd.image.name"] = b.Name
			annotations[ocispec.AnnotationRefName] = b.Name
			root.Annotations = annotations
		}
		idx.Manifests = append(idx.Manifests, root)
		for d, blob := range b.Blobs {
			blobs[d] = blob
		}
	}
	data, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	return WriteLayout(w, data, blobs)
}

// WriteLayout writes an OCI image layout with the given index.json and blobs,
// whatever they say. A blob is stored under its key even if that is not its
// digest.
func WriteLayout(w io.Writer, index []byte, blobs map[digest.Digest][]byte) error {
	tw := tar.NewWriter(w)
	if err := putFile(tw, ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`)); err != nil {
		return err
	}
	if err := putFile(tw, ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	order := make([]digest.Digest, 0, len(blobs))
	for d := range blobs {
		order = append(order, d)
	}
	sort.Slice(order, func(i, j int) bool { return order[i] < order[j] })
	for _, d := range order {
		if err := putFile(tw, "blobs/"+d.Algorithm().String()+"/"+d.Encoded(), blobs[d]); err != nil {
			return err
		}
	}
	return tw.Close()
}

func putFile(tw *tar.Writer, name string, body []byte) error {
	if err := tw.WriteHeader(&tar.Header{
		Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body)), ModTime: Epoch,
	}); err != nil {
		return err
	}
	_, err := tw.Write(body)
	return err
}
