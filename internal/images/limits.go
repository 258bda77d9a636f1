package images

// Limits bound what an image may cost before anything of it is believed or
// unpacked. All sizes are bytes.
type Limits struct {
	Document   int64   // one manifest or index
	Config     int64   // the configuration
	Values     int     // JSON values in one document
	Depth      int     // indexes above a manifest
	Manifests  int     // entries of one index
	Layers     int     // layers of an image; overlayfs and docker stop near 127
	List       int     // entries of each list of the configuration: labels, env, volumes, ports, words
	Content    int64   // layers as stored, together
	Unpacked   int64   // layers unpacked, together
	Files      int64   // files in all layers together
	Ratio      int64   // unpacked/stored of one layer, looked at beyond RatioFloor
	RatioFloor int64   // unpacked bytes below which any ratio is accepted
	Archive    int     // files in an archive given to Load
	FreeShare  float64 // share of the free space an image may take
}

// DefaultLimits are far above real images and far below what harms a host.
// The largest images in public use (machine learning) hold some 30 GB in some
// 500 thousand files; text compresses 10 times, and gzip can reach 1032.
func DefaultLimits() Limits {
	return Limits{
		Document: 4 << 20, Config: 4 << 20, Values: 50_000, Depth: 2, Manifests: 1000,
		Layers: 127, List: 1000,
		Content: 64 << 30, Unpacked: 128 << 30, Files: 5_000_000,
		Ratio: 200, RatioFloor: 1 << 30, Archive: 4096, FreeShare: 0.95,
	}
}
