// How well pairs of images agree, pixel by pixel, in their best pose and shift.
// Specification: aqqua/curate/copies/verify.py, agreement. Checks: same_picture.cpp.
// Test: tests/curate/copies/test_same_picture.py. Timing: bench/data/candidates.py.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "same_picture.hpp"
#include "same_picture_sums.hpp"

namespace {

constexpr double kHopeful = 0.4, kCertain = 0.98, kFlat = 1e-3;  // of verify.py
constexpr double kUnknown = 2;                                   // above every correlation

// Where the energy of an image lies down and to the right, px.
struct Centre {
    double down, right;
};

class Comparison {
public:
    explicit Comparison(const Rule &rule) : rule_(rule) {}

    void take(const Picture &a) {
        a_ = a;
        centre_a_ = centre_of(a);
        peak_ = 0;
        const int64_t pixels = int64_t(a.height) * a.width;
        for (int64_t k = 0; k < pixels; ++k) peak_ = std::max(peak_, double(std::fabs(a.at[k])));
        nine_a_.clear();
        margin_ = -1;
    }

    // The numbers of the best pose, and which it is; -1 where none is good enough.
    int8_t with(const Picture &b, const int8_t *poses, int64_t count, double *numbers) {
        std::fill_n(numbers, kNumbers, 0.0);
        numbers[kNumbers - 1] = peak_;
        int8_t best = -1;
        double best_r = 0;
        int y = 0, x = 0;
        for (int64_t k = 0; k < count; ++k) {
            if (poses[k] < 0 || !turn(b, poses[k])) continue;
            int at_y = 0, at_x = 0;
            const double r = search(at_y, at_x);
            if (r < rule_.correlation || !(r > best_r)) continue;
            best = poses[k], best_r = r, y = at_y, x = at_x;
        }
        if (best < 0) return best;
        turn(b, best);
        place();
        numbers[0] = best_r;
        judge(y, x, numbers);
        return best;
    }

private:
    Centre centre_of(const Picture &image) {
        rows_.assign(size_t(image.height), 0);
        columns_.assign(size_t(image.width), 0);
        scratch_.assign(size_t(image.width), 0);
        for (int y = 0; y < image.height; ++y) {
            const float *row = image.at + int64_t(y) * image.width;
            rows_[size_t(y)] = squares_of(row, image.width);
            add_row(row, image.width, 1, scratch_.data(), columns_.data());
        }
        return {middle(rows_), middle(columns_)};
    }

    static double middle(const std::vector<double> &energy) {
        double total = 0, moment = 0;
        for (size_t k = 0; k < energy.size(); ++k) total += energy[k], moment += energy[k] * double(k);
        return total > 0 ? moment / total : double(energy.size()) / 2;
    }

    // The second image in a pose; false where that does not fit the size of the first.
    bool turn(const Picture &b, int pose) {
        const int64_t height = b.height, width = b.width;
        const int64_t first[4] = {0, width - 1, height * width - 1, (height - 1) * width};
        const int64_t down[4] = {width, -1, -width, 1}, right[4] = {1, width, -1, -width};
        int64_t step_down = down[pose % 4], step_right = right[pose % 4];
        int rows = pose % 2 ? b.width : b.height, columns = pose % 2 ? b.height : b.width;
        if (pose >= 4) std::swap(step_down, step_right), std::swap(rows, columns);
        if (std::abs(rows - a_.height) > rule_.size_px || std::abs(columns - a_.width) > rule_.size_px)
            return false;
        turned_.resize(size_t(rows) * size_t(columns) + kRow);
        for (int y = 0; y < rows; ++y) {
            const float *from = b.at + first[pose % 4] + y * step_down;
            float *to = turned_.data() + int64_t(y) * columns;
            for (int x = 0; x < columns; ++x) to[x] = from[x * step_right];
        }
        std::fill_n(turned_.data() + int64_t(rows) * columns, kRow, 0.0f);
        b_ = {turned_.data(), rows, columns};
        return true;
    }

    // What of the first image is compared: all but a margin, so that the second can be shifted.
    void place() {
        const int height = std::min(a_.height, b_.height), width = std::min(a_.width, b_.width);
        const int margin = std::min(rule_.shift_px, (std::min(height, width) - 1) / 4);
        if (margin == margin_ && height - 2 * margin == rows_of_a_ && width - 2 * margin == columns_of_a_)
            return;
        margin_ = margin, rows_of_a_ = height - 2 * margin, columns_of_a_ = width - 2 * margin;
        padded_ = (columns_of_a_ + kRow - 1) / kRow * kRow;
        inner_.assign(size_t(rows_of_a_) * size_t(padded_), 0);
        double sum = 0, squares = 0;
        for (int y = 0; y < rows_of_a_; ++y) {
            const float *row = a_.at + int64_t(y + margin) * a_.width + margin;
            std::copy_n(row, columns_of_a_, inner_.data() + int64_t(y) * padded_);
            for (int x = 0; x < columns_of_a_; ++x) {
                sum += double(row[x]);
                squares += double(row[x]) * double(row[x]);
            }
        }
        sum_a_ = sum, variance_a_ = squares - sum * sum / pixels();
    }

    double pixels() const { return double(rows_of_a_) * double(columns_of_a_); }

    // The best correlation, and where the window of the second image then begins: uphill from where the
    // centres agree; where nothing is there, from the middle; where that is not enough, everywhere.
    double search(int &best_y, int &best_x) {
        place();
        if (!(variance_a_ > kFlat)) return -1;
        windows_down_ = b_.height - rows_of_a_ + 1, windows_right_ = b_.width - columns_of_a_ + 1;
        window_sums();
        known_.assign(size_t(windows_down_) * size_t(windows_right_), kUnknown);
        top_ = -2;
        const Centre b = centre_of(b_);
        climb(start(b.down - centre_a_.down, windows_down_),
              start(b.right - centre_a_.right, windows_right_));
        if (top_ < kHopeful) climb((windows_down_ - 1) / 2, (windows_right_ - 1) / 2);
        if (top_ >= kHopeful && top_ < kCertain)
            for (int y = 0; y < windows_down_; ++y)
                for (int x = 0; x < windows_right_; ++x) try_window(y, x);
        best_y = top_y_, best_x = top_x_;
        return top_;
    }

    void climb(int y, int x) {
        for (;;) {
            for (int v = std::max(y - 1, 0); v <= std::min(y + 1, windows_down_ - 1); ++v)
                for (int u = std::max(x - 1, 0); u <= std::min(x + 1, windows_right_ - 1); ++u)
                    try_window(v, u);
            if ((top_y_ == y && top_x_ == x) || top_ < kHopeful) return;
            y = top_y_, x = top_x_;
        }
    }

    int start(double shift, int windows) const {
        return int(std::rint(std::min(std::max(shift + margin_, 0.0), double(windows - 1))));
    }

    void try_window(int y, int x) {
        double &known = known_[size_t(y) * size_t(windows_right_) + size_t(x)];
        if (known < kUnknown) return;
        known = correlation(y, x);
        if (known > top_) top_ = known, top_y_ = y, top_x_ = x;
    }

    // Sums and sums of squares of every window of the second image.
    void window_sums() {
        const size_t windows = size_t(windows_down_) * size_t(windows_right_);
        sums_.resize(windows), squares_.resize(windows);
        columns_.assign(size_t(b_.width), 0), scratch_.assign(size_t(b_.width), 0);
        for (int y = 0; y < rows_of_a_; ++y)
            add_row(b_.at + int64_t(y) * b_.width, b_.width, 1, scratch_.data(), columns_.data());
        for (int y = 0; y < windows_down_; ++y) {
            if (y > 0) {
                add_row(b_.at + int64_t(y - 1) * b_.width, b_.width, -1, scratch_.data(), columns_.data());
                add_row(b_.at + int64_t(y + rows_of_a_ - 1) * b_.width, b_.width, 1, scratch_.data(),
                        columns_.data());
            }
            double sum = 0, squares = 0;
            for (int x = 0; x < columns_of_a_; ++x)
                sum += scratch_[size_t(x)], squares += columns_[size_t(x)];
            for (int x = 0; x < windows_right_; ++x) {
                if (x > 0) {
                    const size_t gone = size_t(x - 1), come = size_t(x + columns_of_a_ - 1);
                    sum += scratch_[come] - scratch_[gone];
                    squares += columns_[come] - columns_[gone];
                }
                const size_t at = size_t(y) * size_t(windows_right_) + size_t(x);
                sums_[at] = sum, squares_[at] = squares;
            }
        }
    }

    double correlation(int y, int x) const {
        const size_t at = size_t(y) * size_t(windows_right_) + size_t(x);
        const double variance = squares_[at] - sums_[at] * sums_[at] / pixels();
        if (!(variance > kFlat)) return 0;
        const float *window = b_.at + int64_t(y) * b_.width + x;
        const double both = products(inner_.data(), window, rows_of_a_, padded_, b_.width);
        return (both - sum_a_ * sums_[at] / pixels()) / (std::sqrt(variance_a_) * std::sqrt(variance));
    }

    // What is alike and what is left of the averages over 3 x 3 pixels, and how alike is what they remove.
    void judge(int y0, int x0, double *numbers) {
        if (nine_a_.empty()) nine_of(a_, nine_a_);
        nine_of(b_, nine_b_);
        double sums[kSums] = {};
        for (int y = 0; y < rows_of_a_; ++y) {
            const int64_t at_a = at_of_a(y), at_b = int64_t(y + y0) * b_.width + x0;
            add_sums(&nine_a_[size_t(at_a)], &nine_b_[size_t(at_b)], a_.at + at_a, b_.at + at_b,
                     columns_of_a_, sums);
        }
        const auto [a, b, aa, ab, bb, fine_aa, fine_ab, fine_bb] = sums;
        const double n = pixels(), variance_a = aa - a * a / n, variance_b = bb - b * b / n;
        const double both = ab - a * b / n, lengths = std::sqrt(fine_aa) * std::sqrt(fine_bb);
        if (variance_a > kFlat && variance_b > kFlat) {
            numbers[1] = both / (std::sqrt(variance_a) * std::sqrt(variance_b));
            numbers[2] = both / variance_a;
        }
        double most = 0;
        for (int y = 0; y < rows_of_a_; ++y)
            most = std::max(most, most_left(&nine_a_[size_t(at_of_a(y))],
                                            &nine_b_[size_t(int64_t(y + y0) * b_.width + x0)], columns_of_a_,
                                            a / n, b / n, numbers[2]));
        numbers[3] = most / 9;
        numbers[4] = lengths > kFlat ? fine_ab / lengths : 1;
    }

    int64_t at_of_a(int y) const { return int64_t(y + margin_) * a_.width + margin_; }

    void nine_of(const Picture &image, std::vector<double> &out) {
        out.resize(size_t(image.height) * size_t(image.width));
        scratch_.resize(size_t(image.width) + 2);
        nine(image, scratch_.data(), out.data());
    }

    Rule rule_;
    Picture a_{}, b_{};
    Centre centre_a_{};
    double peak_ = 0, sum_a_ = 0, variance_a_ = 0;
    double top_ = -2;
    int top_y_ = 0, top_x_ = 0;
    int margin_ = -1, rows_of_a_ = 0, columns_of_a_ = 0, padded_ = 0, windows_down_ = 0, windows_right_ = 0;
    std::vector<float> inner_, turned_;
    std::vector<double> known_, sums_, squares_, rows_, columns_, scratch_, nine_a_, nine_b_;
};

}  // namespace

// Pairs are dealt out in runs; each thread has its own room to work in.
void compare_all(const Pictures &a, const Pictures &b, const int64_t *a_P, const int64_t *b_P,
                 const int8_t *poses, int64_t pairs, int64_t tried, const Rule &rule, int64_t threads,
                 double *numbers, int8_t *pose) {
    constexpr int64_t kRun = 256;
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        Comparison comparison(rule);
        int64_t held = -1;
        for (;;) {
            const int64_t first = next.fetch_add(kRun);
            if (first >= pairs) return;
            for (int64_t p = first; p < std::min(first + kRun, pairs); ++p) {
                if (a_P[p] != held) comparison.take(a[held = a_P[p]]);
                pose[p] = comparison.with(b[b_P[p]], poses + p * tried, tried, numbers + p * kNumbers);
            }
        }
    };
    std::vector<std::thread> others;
    for (int64_t t = 1; t < std::min(threads, (pairs + kRun - 1) / kRun); ++t) others.emplace_back(work);
    work();
    for (auto &other : others) other.join();
}
