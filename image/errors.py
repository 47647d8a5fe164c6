"""What can go wrong while an image is built, in words for the person who builds it.

ImageError
├── FetchError     something could not be downloaded; names what and why
├── ToolError      a program that the build runs is missing or has failed
└── FormatError    a file is not what its name promises; names file and field
"""


class ImageError(Exception):
    """The image was not built; what was there before is untouched."""


class FetchError(ImageError):
    pass


class ToolError(ImageError):
    pass


class FormatError(ImageError):
    pass
