"""Reading images and annotations, fitting images to the detector, writing detections."""
