"""Reading pictures and annotations, fitting pictures to the detector, writing detections."""
